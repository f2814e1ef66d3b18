#![doc = include_str!("../README.md")]

/// A body in protobuf.
#[derive(Debug)]
pub struct Prost<T>(pub T);
