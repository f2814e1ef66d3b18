//! SQLite storage for tickr, on rusqlite
