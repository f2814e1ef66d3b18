//! As much of PostgreSQL's protocol as a cut needs: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.
//!
//! After the first message of a client, which has no type, every message is a type, a length that counts itself, and the rest.

/// The type of a simple query.
const QUERY: u8 = b'Q';
/// The type that ends a part of the extended protocol.
const SYNC: u8 = b'S';
/// The type of the answer to both of them, once all of it was said.
const READY_FOR_QUERY: u8 = b'Z';

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// `None`: the first one of a client.
    kind: Option<u8>,
    pub(super) bytes: Vec<u8>,
}

impl Frame {
    /// Whether the server answers with "ready for query" when it is through with this: so does the end of a login.
    pub(super) fn is_request(&self) -> bool {
        matches!(self.kind, None | Some(QUERY | SYNC))
    }

    pub(super) fn is_commit(&self) -> bool {
        self.kind == Some(QUERY) && &self.bytes[5..] == b"COMMIT\0"
    }

    pub(super) fn is_ready_for_query(&self) -> bool {
        self.kind == Some(READY_FOR_QUERY)
    }
}

/// Puts messages together from what arrives.
#[derive(Debug)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    /// Whether the next message has no type.
    first: bool,
}

impl Frames {
    pub(super) fn of_client() -> Self {
        Self { buffer: Vec::new(), first: true }
    }

    pub(super) fn of_server() -> Self {
        Self { buffer: Vec::new(), first: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message that is complete.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let kind = if self.first { None } else { Some(*self.buffer.first()?) };
        let head = usize::from(kind.is_some());
        let length = self.buffer.get(head..head + 4)?;
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let end = head + length.max(4);
        if self.buffer.len() < end {
            return None;
        }
        self.first = false;
        Some(Frame { kind, bytes: self.buffer.drain(..end).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(rest.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], rest].concat()
    }

    #[test]
    fn messages_are_put_together_from_pieces() {
        let login = [&8_u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
        let all = [login.clone(), message(b'Q', b"BEGIN\0"), message(b'P', b"x"), message(b'S', b""), message(b'Q', b"COMMIT\0")].concat();
        let mut frames = Frames::of_client();
        let mut seen = Vec::new();
        for byte in &all {
            frames.push(&[*byte]);
            seen.extend(frames.next());
        }
        assert_eq!(seen.concat_bytes(), all);
        assert_eq!(seen[0].bytes, login);
        assert_eq!(seen.iter().map(Frame::is_request).collect::<Vec<_>>(), [true, true, false, true, true]);
        assert_eq!(seen.iter().map(Frame::is_commit).collect::<Vec<_>>(), [false, false, false, false, true]);
    }

    #[test]
    fn the_end_of_an_answer_is_found() {
        let mut frames = Frames::of_server();
        frames.push(&[message(b'C', b"COMMIT\0"), message(b'Z', b"I")].concat());
        assert!(!frames.next().unwrap().is_ready_for_query());
        assert!(frames.next().unwrap().is_ready_for_query());
        assert_eq!(frames.next(), None);
    }

    trait Concat {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl Concat for Vec<Frame> {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().flat_map(|frame| frame.bytes.clone()).collect()
        }
    }
}
