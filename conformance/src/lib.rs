#![doc = include_str!("../README.md")]

mod harness;
mod rendezvous;

pub use harness::{Harness, Sabotage, TxReport, TxStep};
pub use rendezvous::Rendezvous;
