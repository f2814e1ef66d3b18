//! The crash proof at its full size: real processes, killed every 300 ms.

#[cfg(test)]
mod crash {
    use std::process::Command;
    use std::sync::{Mutex, PoisonError};

    /// Storms need the machine for themselves, also where the tests of a binary share a process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn run(args: &[&str]) {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let output = Command::new(env!("CARGO_BIN_EXE_tickr-crash")).arg("run").args(args).output().unwrap();
        let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{told}");
        assert!(output.status.success(), "the proof failed ({}):\n{told}\n{errors}", output.status);
    }

    #[test]
    fn nothing_is_lost_whatever_dies() {
        run(&["--messages=10000", "--producers=3", "--workers=4", "--seconds=40", "--lease-ms=1000", "--kill-every-ms=300"]);
    }

    #[test]
    fn nothing_is_lost_when_every_commit_reaches_the_disk() {
        run(&["--durable", "--messages=600", "--seconds=8", "--holds=1"]);
    }

    /// On a server of its own, which crashes too, behind a network that breaks and stalls.
    mod postgres {
        use super::run;

        #[test]
        fn nothing_is_lost_whatever_dies() {
            run(&[
                "--on=postgres",
                "--messages=20000",
                "--producers=3",
                "--workers=4",
                "--seconds=90",
                "--lease-ms=1000",
                "--limit-seconds=540",
            ]);
        }

        #[test]
        fn nothing_is_lost_in_a_short_storm() {
            run(&[
                "--on=postgres",
                "--messages=1500",
                "--seconds=12",
                "--restart-every-ms=8000",
                "--stall-every-ms=5000",
                "--limit-seconds=240",
            ]);
        }
    }
}
