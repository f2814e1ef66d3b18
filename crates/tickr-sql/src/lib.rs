//! The SQL statements of tickr, one file each, per database
