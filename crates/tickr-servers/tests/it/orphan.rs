//! What is left when the process that started a server is killed: nothing.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tickr_servers::{Cluster, Kind};

use super::runs;

/// Set for the process that is killed.
const VICTIM: &str = "TICKR_SERVERS_TEST_VICTIM";

#[test]
fn a_killed_process_leaves_no_server() {
    if env::var_os(VICTIM).is_some() {
        let cluster = Cluster::builder().start().unwrap();
        println!("\nvictim {} {}", cluster.pid().unwrap(), cluster.folder().display());
        loop {
            std::thread::park();
        }
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "orphan::a_killed_process_leaves_no_server", "--nocapture"]).env(VICTIM, "1").stdout(Stdio::piped());
    let mut victim = command.spawn().unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("victim ")).unwrap();
    let [_, pid, folder] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let (pid, folder) = (pid.parse().unwrap(), PathBuf::from(folder));
    assert!(runs(Kind::Postgres, pid, &folder));
    victim.kill().unwrap();
    victim.wait().unwrap();
    for _ in 0..200 {
        if !folder.exists() && !runs(Kind::Postgres, pid, &folder) {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "waits for a process that is nobody's child any more")]
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("process {pid} or {} outlived its parent by 10 s", folder.display());
}
