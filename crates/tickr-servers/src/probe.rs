//! One step of PostgreSQL's protocol: enough to learn whether a server takes connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Protocol 3.0, <https://www.postgresql.org/docs/current/protocol-message-formats.html>.
const PROTOCOL: u32 = 196_608;

/// Longer than any first answer: what says more is no such server.
const ANSWER_LENGTH_MAX: usize = 16 * 1024;

/// What a server says to somebody who logs in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It goes on, perhaps by asking for a password.
    Welcome,
    /// It refuses, by an SQLSTATE.
    Refusal { code: String, message: String },
}

/// Asks the server on that port of the loopback interface for a session.
pub(crate) fn log_in(port: u16, user: &str, database: &str) -> Result<Answer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("nothing listens on {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&startup(user, database))?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).context("no answer to a startup message")?;
    let [kind, length @ ..] = head;
    match kind {
        b'R' => {
            // Terminate; a server that waits for a password takes the end of the connection as well.
            let _ = stream.write_all(b"X\0\0\0\x04");
            Ok(Answer::Welcome)
        }
        b'E' => {
            let length = usize::try_from(u32::from_be_bytes(length))?.saturating_sub(4).min(ANSWER_LENGTH_MAX);
            let mut body = vec![0; length];
            stream.read_exact(&mut body).context("half an answer to a startup message")?;
            let (code, message) = (field(&body, b'C'), field(&body, b'M'));
            Ok(Answer::Refusal { code, message })
        }
        other => bail!("{address} does not speak PostgreSQL's protocol: it answers with {other:#x}"),
    }
}

fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", user, "database", database, ""] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body.as_slice()].concat()
}

/// A field of an error: a letter and a text that ends with a zero.
fn field(body: &[u8], letter: u8) -> String {
    let found = body.split(|&byte| byte == 0).find_map(|field| field.strip_prefix(&[letter]));
    String::from_utf8_lossy(found.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answer(bytes: &'static [u8]) -> Result<Answer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 34];
            stream.read_exact(&mut asked).unwrap();
            assert_eq!(asked[..8], [0, 0, 0, 34, 0, 3, 0, 0]);
            stream.write_all(bytes).unwrap();
        });
        let answer = log_in(port, "someone", "db");
        server.join().unwrap();
        answer
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(answer(b"R\0\0\0\x08\0\0\0\0").unwrap(), Answer::Welcome);
        let refusal = Answer::Refusal { code: "57P03".to_owned(), message: "starting".to_owned() };
        assert_eq!(answer(b"E\0\0\0\x1dSFATAL\0C57P03\0Mstarting\0\0").unwrap(), refusal);
        assert!(answer(b"HTTP/1.1 400").is_err());
        assert!(answer(b"").is_err());
    }
}
