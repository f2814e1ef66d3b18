//! Versioned schema of tickr, per database
