//! PgBouncer in front of PostgreSQL.

use tickr_servers::{Address, Auth, Bouncer, Cluster, Kind};

use super::session::Session;
use super::{query, runs};

#[test]
fn transactions_of_one_client_share_connections_with_others() {
    let cluster = Cluster::builder().start().unwrap();
    let bouncer = Bouncer::builder(cluster.address()).max_prepared_statements(100).start().unwrap();
    assert_eq!(query(&bouncer.address(), "postgres", "SELECT current_user").unwrap(), "postgres");
    let configuration = query(&bouncer.address(), "pgbouncer", "SHOW CONFIG").unwrap();
    let value = |name: &str| configuration.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('|')?.split('|').next());
    assert_eq!(value("pool_mode"), Some("transaction"));
    let prepared = bouncer.has_prepared_statements().then_some("100");
    assert_eq!(value("max_prepared_statements"), prepared);
}

#[test]
fn everybody_is_the_upstreams_user() {
    let cluster = Cluster::builder().password("secret").start().unwrap();
    let bouncer = Bouncer::builder(cluster.address()).start().unwrap();
    let somebody = Address { user: "somebody".to_owned(), ..bouncer.address() };
    assert_eq!(query(&somebody, "postgres", "SELECT current_user").unwrap(), "postgres");
}

#[test]
fn trust_is_for_the_upstreams_user() {
    let cluster = Cluster::builder().password("secret").start().unwrap();
    let bouncer = Bouncer::builder(cluster.address()).auth(Auth::Trust).start().unwrap();
    assert_eq!(query(&bouncer.address(), "postgres", "SELECT 1").unwrap(), "1");
    let somebody = Address { user: "somebody".to_owned(), ..bouncer.address() };
    assert!(query(&somebody, "postgres", "SELECT 1").is_err());
}

#[test]
fn the_upstream_may_be_a_unix_socket() {
    let cluster = Cluster::builder().start().unwrap();
    let bouncer = Bouncer::builder(cluster.socket_address()).start().unwrap();
    assert_eq!(query(&bouncer.address(), "postgres", "SELECT 1").unwrap(), "1");
}

#[test]
fn dropping_leaves_no_process_and_no_folder() {
    let cluster = Cluster::builder().start().unwrap();
    let bouncer = Bouncer::builder(cluster.address()).start().unwrap();
    let (pid, folder) = (bouncer.pid().unwrap(), bouncer.folder().to_path_buf());
    assert!(runs(Kind::Bouncer, pid, &folder));
    drop(bouncer);
    assert!(!runs(Kind::Bouncer, pid, &folder));
    assert!(!folder.exists());
}

#[test]
fn a_missing_program_is_named() {
    let cluster = Cluster::builder().start().unwrap();
    let error = Bouncer::builder(cluster.address()).program("/nowhere/pgbouncer").start().unwrap_err().to_string();
    assert!(error.contains("pgbouncer --version"), "{error}");
}

#[test]
fn the_newest_follows_prepared_statements_from_connection_to_connection() {
    let cluster = Cluster::builder().start().unwrap();
    let program = Bouncer::fetch_newest().unwrap();
    let builder = Bouncer::builder(cluster.address()).program(program).max_prepared_statements(100);
    // Both clients share one connection of the server, on which a name can stand for one statement only.
    let bouncer = builder.setting("default_pool_size", "1").start().unwrap();
    assert!(bouncer.has_prepared_statements());
    let (mut one, mut other) = (Session::open(&bouncer.address()), Session::open(&bouncer.address()));
    assert_eq!(one.prepare("same", "SELECT 'one'"), Ok(vec![]));
    assert_eq!(other.prepare("same", "SELECT 'other'"), Ok(vec![]));
    assert_eq!(one.execute("same"), Ok(vec!["one".to_owned()]));
    assert_eq!(other.execute("same"), Ok(vec!["other".to_owned()]));
    assert_eq!(one.execute("same"), Ok(vec!["one".to_owned()]));
}

#[test]
fn the_newest_is_known_and_stopped_as_any_other() {
    let cluster = Cluster::builder().start().unwrap();
    let program = Bouncer::fetch_newest().unwrap();
    let bouncer = Bouncer::builder(cluster.address()).program(program).start().unwrap();
    let (pid, folder) = (bouncer.pid().unwrap(), bouncer.folder().to_path_buf());
    assert!(runs(Kind::Bouncer, pid, &folder));
    let detached = bouncer.detach().unwrap();
    assert!(detached.is_running());
    detached.stop().unwrap();
    assert!(!runs(Kind::Bouncer, pid, &folder) && !folder.exists());
}
