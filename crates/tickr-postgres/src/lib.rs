#![doc = include_str!("../README.md")]

mod act;
mod admin;
mod audit;
mod catch_up;
mod claim;
mod config;
mod connection;
mod door;
mod enqueue;
mod error;
mod executor;
mod floor;
mod lock;
mod lookup;
mod migrate;
mod notifier;
mod partition;
mod pause;
mod promotion;
mod purge;
mod row;
mod scope;
mod sequence;
mod settle;
mod singles;
mod stats;
mod storage;
mod tls;
mod tx;
mod upkeep;
mod worker;

pub use config::{Builder, Tls};
pub use deadpool_postgres;
pub use storage::PostgresStorage;
pub use tokio_postgres;
pub use tx::InTransaction;
