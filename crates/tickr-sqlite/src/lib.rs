#![doc = include_str!("../README.md")]

mod act;
mod admin;
mod application;
mod audit;
mod claim;
mod config;
mod connection;
mod deadline;
mod door;
mod enqueue;
mod error;
mod executor;
mod file;
mod journal;
mod lock;
mod lookup;
mod migrate;
mod notifier;
mod pause;
mod purge;
mod row;
mod scope;
mod settle;
mod sight;
mod stats;
mod storage;
mod tx;
mod upkeep;
mod worker;

pub use application::{Transactions, Tx};
pub use config::{Builder, OpenMode, Synchronous};
pub use rusqlite;
pub use storage::SqliteStorage;
pub use tx::{InTransaction, OpenTransaction};
