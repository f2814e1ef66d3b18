//! A certificate that a server signs itself.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::folder::Folder;
use crate::program;

/// Not an authority: who trusts it trusts this one server, under its names on this machine.
const CONFIG: &str = "\
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = localhost
[extensions]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
";

/// A certificate and its key, as files of the servers' user.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    pub(crate) fn create(folder: &Folder) -> Result<Self> {
        const MISSING: &str = "a server with TLS needs the program `openssl`; install it, on Debian: apt-get install openssl";
        let openssl = program::find("openssl").context(MISSING)?;
        let config = folder.write("openssl.cnf", CONFIG)?;
        let (certificate, key) = (folder.write("server.crt", "")?, folder.write("server.key", "")?);
        let mut command: Command = folder.command(openssl);
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-config"]).arg(config);
        command.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        program::output(&mut command).context("could not make a certificate")?;
        Ok(Self { certificate, key })
    }
}
