//! MemoryStorage under the suite.
