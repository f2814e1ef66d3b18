#![doc = include_str!("../README.md")]

#[doc(hidden)]
#[path = "cases/mod.rs"]
pub mod __cases;
mod all;
mod faults;
mod harness;
mod list;
mod model;
mod rendezvous;
mod run;
mod simulation;
mod suite;
mod traced;
mod words;
mod worker;
mod world;

pub use faults::{Faulty, Op};
pub use harness::{Harness, Sabotage, TxReport, TxStep};
pub use list::{CaseInfo, cases};
pub use rendezvous::Rendezvous;
#[doc(hidden)]
pub use run::{Case, run};
#[doc(hidden)]
pub use world::World;
