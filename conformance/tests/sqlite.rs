//! tickr-sqlite under the suite.
