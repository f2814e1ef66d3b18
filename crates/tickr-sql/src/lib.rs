#![doc = include_str!("../README.md")]

pub mod json;
pub mod postgres;
mod salvage;
pub mod sqlite;

pub use salvage::{Salvage, Salvaged};
