//! The crash proof at its full size: real processes, killed every 300 ms.

#[cfg(test)]
mod crash {
    use std::process::Command;

    fn run(args: &[&str]) {
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
}
