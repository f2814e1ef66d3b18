//! What the compiler says of wrong handlers: each program in `messages/` is refused, with the sentences that its comments name.
//!
//! Only sentences are compared, not the whole output, which differs from one compiler to the next. A program is compiled by `rustc`
//! itself against the library that cargo has built for the tests, so that a case takes a fraction of a second.
#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library, and where its dependencies are.
struct Library {
    tickr: PathBuf,
    serde: PathBuf,
    dependencies: PathBuf,
}

/// Asks cargo for the library as it is built for this very test; usually nothing is left to compile.
fn library() -> Library {
    let dependencies = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let target = dependencies.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--offline",
        "--quiet",
        "--lib",
        "--features",
        "json",
        "--message-format",
        "json-render-diagnostics",
        "--manifest-path",
    ]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).arg("--target-dir").arg(target);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let built = String::from_utf8(output.stdout).unwrap();
    let artifact = |name: &str| {
        let start = format!("{}/lib{name}-", dependencies.display());
        let found = built.split('"').find(|text| text.starts_with(&start) && text.ends_with(".rmeta"));
        PathBuf::from(found.unwrap_or_else(|| panic!("cargo built no {name}")))
    };
    let tickr = built.split('"').find(|text| text.ends_with("libtickr.rlib") || text.contains("/deps/libtickr-")).unwrap();
    Library { tickr: PathBuf::from(tickr), serde: artifact("serde"), dependencies: dependencies.clone() }
}

/// What the compiler says of a program; `None` when it compiles.
fn compile(library: &Library, program: &Path, folder: &Path) -> Option<String> {
    let extern_crate = |name: &str, path: &Path| format!("{name}={}", path.display());
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--emit", "metadata", "--color", "never", "--out-dir"]).arg(folder);
    rustc.arg("--extern").arg(extern_crate("tickr", &library.tickr)).arg("--extern").arg(extern_crate("serde", &library.serde));
    rustc.arg("-L").arg(format!("dependency={}", library.dependencies.display())).arg(program);
    let output = rustc.output().unwrap();
    (!output.status.success()).then(|| String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_compiler_says_what_is_wrong_with_a_handler() {
    let (library, folder) = (library(), tempfile::tempdir().unwrap());
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages");
    let mut programs: Vec<_> = programs.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    programs.sort();
    let mut wrong = Vec::new();
    for program in &programs {
        let (name, source) = (program.file_name().unwrap().display(), std::fs::read_to_string(program).unwrap());
        let wanted: Vec<_> = source.lines().filter_map(|line| line.strip_prefix("//~ ")).collect();
        match (compile(&library, program, folder.path()), wanted.is_empty()) {
            (None, true) => {}
            (None, false) => wrong.push(format!("{name} compiles")),
            (Some(said), true) => wrong.push(format!("{name} does not compile:\n{said}")),
            (Some(said), false) => {
                let missing: Vec<_> = wanted.into_iter().filter(|sentence| !said.contains(sentence)).collect();
                if !missing.is_empty() {
                    wrong.push(format!("{name}: {missing:#?} is missing in:\n{said}"));
                }
            }
        }
    }
    assert!(programs.len() > 10 && wrong.is_empty(), "{}", wrong.join("\n"));
}
