//! A session in the extended protocol, message by message: `psql` names prepared statements only since PostgreSQL 18.

#![allow(clippy::unwrap_used, reason = "a helper of tests is part of them")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tickr_servers::Address;

/// A client of a server that asks for no password.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
pub(crate) struct Session(TcpStream);

impl Session {
    pub(crate) fn open(address: &Address) -> Self {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut session = Self(stream);
        let startup = [&196_608_i32.to_be_bytes(), "user\0".as_bytes(), address.user.as_bytes(), b"\0database\0postgres\0\0"].concat();
        session.0.write_all(&(i32::try_from(startup.len() + 4).unwrap()).to_be_bytes()).unwrap();
        session.0.write_all(&startup).unwrap();
        session.answer().unwrap();
        session
    }

    /// Prepares a statement in a transaction of its own.
    pub(crate) fn prepare(&mut self, name: &str, sql: &str) -> Result<Vec<String>, String> {
        // Without types of parameters.
        self.send(b'P', format!("{name}\0{sql}\0\0\0").as_bytes());
        self.send(b'S', b"");
        self.answer()
    }

    /// Executes it in another one; returns the first column.
    pub(crate) fn execute(&mut self, name: &str) -> Result<Vec<String>, String> {
        // The unnamed portal; no parameters, results as text; as many rows as there are.
        self.send(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
        self.send(b'E', b"\0\0\0\0\0");
        self.send(b'S', b"");
        self.answer()
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let length = i32::try_from(body.len() + 4).unwrap().to_be_bytes();
        self.0.write_all(&[&[kind], &length[..], body].concat()).unwrap();
    }

    /// Reads until the server is ready for more: rows, or an error.
    fn answer(&mut self) -> Result<Vec<String>, String> {
        let mut answer = Ok(Vec::new());
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            self.0.read_exact(&mut body).unwrap();
            match (head[0], &mut answer) {
                (b'Z', _) => return answer,
                // The number of columns, and the length of the first.
                (b'D', Ok(rows)) => rows.push(String::from_utf8_lossy(&body[6..]).into_owned()),
                (b'E', _) => answer = Err(String::from_utf8_lossy(&body).replace('\0', " ")),
                _ => {}
            }
        }
    }
}
