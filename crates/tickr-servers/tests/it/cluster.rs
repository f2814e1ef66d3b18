//! PostgreSQL.

use tickr_servers::{Cluster, Kind, Stop};

use super::{query, runs};

#[test]
fn a_cluster_is_utf8_and_durable_but_for_the_disk() {
    let cluster = Cluster::builder().start().unwrap();
    let show = |name: &str| query(&cluster.address(), "postgres", &format!("SHOW {name}")).unwrap();
    assert_eq!(show("server_encoding"), "UTF8");
    assert_eq!(show("synchronous_commit"), "on");
    assert_eq!(show("fsync"), "off");
    assert_eq!(show("max_connections"), "200");
    assert_eq!(show("listen_addresses"), "127.0.0.1");
    assert!(show("server_version").starts_with(&cluster.version().major.to_string()));
    assert_eq!(query(&cluster.address(), "postgres", "SELECT datcollate FROM pg_database WHERE datname = 'template1'").unwrap(), "C");
}

#[test]
fn a_crash_keeps_the_port_and_what_was_committed() {
    let mut cluster = Cluster::builder().start().unwrap();
    let (port, first) = (cluster.port(), cluster.pid());
    query(&cluster.address(), "postgres", "CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)").unwrap();
    cluster.stop(Stop::Immediate);
    assert_eq!(cluster.pid(), None);
    assert!(query(&cluster.address(), "postgres", "SELECT 1").is_err());
    cluster.start().unwrap();
    assert_eq!(cluster.port(), port);
    assert_ne!(cluster.pid(), first);
    assert_eq!(query(&cluster.address(), "postgres", "SELECT n FROM kept").unwrap(), "42");
    assert!(cluster.log().contains("was not properly shut down"), "{}", cluster.log());
    cluster.stop(Stop::Fast);
    cluster.stop(Stop::Fast);
    cluster.start().unwrap();
    assert!(cluster.start().unwrap_err().to_string().contains("runs already"));
}

#[test]
fn dropping_leaves_no_process_and_no_folder() {
    let cluster = Cluster::builder().start().unwrap();
    let (pid, folder) = (cluster.pid().unwrap(), cluster.folder().to_path_buf());
    assert!(runs(Kind::Postgres, pid, &folder) && folder.exists());
    drop(cluster);
    assert!(!runs(Kind::Postgres, pid, &folder));
    assert!(!folder.exists());
}

#[test]
fn a_password_is_asked_for_by_tcp_only() {
    let cluster = Cluster::builder().password("p@ss word").start().unwrap();
    assert_eq!(query(&cluster.address(), "postgres", "SHOW password_encryption").unwrap(), "scram-sha-256");
    let mut nobody = cluster.address();
    nobody.password = None;
    assert!(query(&nobody, "postgres", "SELECT 1").is_err());
    assert_eq!(query(&cluster.socket_address(), "postgres", "SELECT 1").unwrap(), "1");
}

#[test]
fn tls_is_verified_by_the_clusters_certificate() {
    let cluster = Cluster::builder().tls().start().unwrap();
    let certificate = cluster.certificate().unwrap().display();
    // By its name, because libpq compares addresses with the certificate only since PostgreSQL 15.
    let mut address = cluster.address();
    address.host = "localhost".to_owned();
    let database = "postgres";
    let url = format!("{}?sslmode=verify-full&sslrootcert={certificate}", address.url(database));
    let mut command = std::process::Command::new("psql");
    let output = command.args(["-XAtw", "-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "t", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn settings_of_the_caller_win() {
    let cluster = Cluster::builder().setting("max_connections", "17").setting("shared_buffers", "16MB").start().unwrap();
    assert_eq!(query(&cluster.address(), "postgres", "SHOW max_connections").unwrap(), "17");
}

#[test]
fn a_server_that_does_not_start_shows_its_log() {
    let error = Cluster::builder().setting("shared_buffers", "many").start().unwrap_err().to_string();
    assert!(error.contains("could not start PostgreSQL") && error.contains("invalid value for parameter"), "{error}");
}

#[test]
fn what_is_detached_runs_on_until_it_is_stopped() {
    let cluster = Cluster::builder().start().unwrap();
    let address = cluster.address();
    let detached = cluster.detach().unwrap();
    assert!(detached.is_running());
    assert_eq!(query(&address, "postgres", "SELECT 1").unwrap(), "1");
    detached.stop().unwrap();
    assert!(!detached.is_running() && !detached.folder.exists());
    detached.stop().unwrap();
}
