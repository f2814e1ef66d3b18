//! A small lexer of Rust: code, string literals and comments apart, test code marked.

/// A piece of a source with the line on which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The line, from 1.
    pub(super) line: usize,
    /// The text: of a literal without quotes, of a comment with its slashes.
    pub(super) text: String,
}

/// A Rust source, taken apart.
#[derive(Debug)]
pub(super) struct Source {
    /// The text with comments and the insides of literals blanked, line by line the same.
    code: String,
    literals: Vec<Piece>,
    comments: Vec<Piece>,
    /// First and last lines of items under `#[cfg(test)]`.
    test_lines: Vec<(usize, usize)>,
    /// How many lines the text has.
    lines: usize,
}

impl Source {
    /// Takes a source apart.
    pub(super) fn read(text: &str) -> Self {
        let mut lexer = Lexer::new(text);
        lexer.run();
        let code = String::from_utf8_lossy(&lexer.code).into_owned();
        Self { test_lines: test_lines(&code), lines: text.lines().count(), literals: lexer.literals, comments: lexer.comments, code }
    }

    /// How many lines the source has.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// The lines of code outside of tests, from 1, without comments and literals.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line)).filter(|(line, _)| !self.is_test(*line))
    }

    /// The string literals, those of tests too.
    pub(super) fn literals(&self) -> impl Iterator<Item = &Piece> {
        self.literals.iter()
    }

    /// The string literals outside of tests.
    pub(super) fn product_literals(&self) -> impl Iterator<Item = &Piece> {
        self.literals.iter().filter(|l| !self.is_test(l.line))
    }

    /// The comments outside of tests.
    pub(super) fn comments(&self) -> impl Iterator<Item = &Piece> {
        self.comments.iter().filter(|c| !self.is_test(c.line))
    }

    fn is_test(&self, line: usize) -> bool {
        self.test_lines.iter().any(|&(first, last)| (first..=last).contains(&line))
    }
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: usize,
    code: Vec<u8>,
    literals: Vec<Piece>,
    comments: Vec<Piece>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            line: 1,
            code: Vec::with_capacity(text.len()),
            literals: Vec::new(),
            comments: Vec::new(),
        }
    }

    fn run(&mut self) {
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'/')) => self.line_comment(),
                (b'/', Some(b'*')) => self.block_comment(),
                (b'"', _) => self.string(),
                (b'r', Some(b'"' | b'#')) if !self.in_word() => self.raw_string(),
                (b'\'', _) => self.quote(),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn starts_with(&self, text: &str) -> bool {
        self.bytes[self.at..].starts_with(text.as_bytes())
    }

    /// True if the byte before belongs to an identifier that is no prefix of a literal (`br`, `cr`).
    fn in_word(&self) -> bool {
        let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let before = &self.bytes[..self.at];
        let word = before.iter().rev().take_while(|b| is_word(b)).count();
        word > 1 || (word == 1 && !matches!(before.last(), Some(b'b' | b'c')))
    }

    fn keep(&mut self) {
        let byte = self.bytes[self.at];
        self.line += usize::from(byte == b'\n');
        self.code.push(byte);
        self.at += 1;
    }

    fn blank(&mut self) {
        let byte = self.bytes[self.at];
        self.line += usize::from(byte == b'\n');
        self.code.push(if byte == b'\n' { b'\n' } else { b' ' });
        self.at += 1;
    }

    fn line_comment(&mut self) {
        let (start, line) = (self.at, self.line);
        while self.peek(0).is_some_and(|byte| byte != b'\n') {
            self.blank();
        }
        let text = self.text[start..self.at].to_owned();
        self.comments.push(Piece { line, text });
    }

    /// Block comments nest. Each line is a piece, so that findings in it have their own.
    fn block_comment(&mut self) {
        let (start, line) = (self.at, self.line);
        let mut depth = 0;
        while self.peek(0).is_some() {
            if self.starts_with("/*") {
                depth += 1;
                self.blank();
            } else if self.starts_with("*/") {
                depth -= 1;
                self.blank();
            }
            self.blank();
            if depth == 0 {
                break;
            }
        }
        for (index, text) in self.text[start..self.at].lines().enumerate() {
            self.comments.push(Piece { line: line + index, text: text.to_owned() });
        }
    }

    fn string(&mut self) {
        let line = self.line;
        self.keep();
        let mut text = Vec::new();
        while let Some(byte) = self.peek(0).filter(|&byte| byte != b'"') {
            if byte == b'\\' {
                // What the escape stands for matters only where it is white space.
                let escaped = self.peek(1);
                let is_space = matches!(escaped, Some(b'n' | b't' | b'r' | b'\n' | b'\r'));
                text.push(if is_space { b' ' } else { escaped.unwrap_or(b' ') });
                self.blank();
                if escaped.is_some() {
                    self.blank();
                }
            } else {
                text.push(byte);
                self.blank();
            }
        }
        if self.peek(0).is_some() {
            self.keep();
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        self.literals.push(Piece { line, text });
    }

    fn raw_string(&mut self) {
        let hashes = self.bytes[self.at + 1..].iter().take_while(|&&byte| byte == b'#').count();
        // A raw identifier looks alike until here.
        if self.peek(1 + hashes) != Some(b'"') {
            self.keep();
            return;
        }
        let line = self.line;
        for _ in 0..hashes + 2 {
            self.keep();
        }
        let end = format!("\"{}", "#".repeat(hashes));
        let start = self.at;
        while self.peek(0).is_some() && !self.starts_with(&end) {
            self.blank();
        }
        let text = self.text[start..self.at].to_owned();
        for _ in 0..end.len().min(self.bytes.len() - self.at) {
            self.keep();
        }
        self.literals.push(Piece { line, text });
    }

    /// A character literal or a lifetime.
    fn quote(&mut self) {
        let mut rest = self.text[self.at + 1..].chars();
        let (first, second) = (rest.next(), rest.next());
        self.keep();
        if first != Some('\\') && second != Some('\'') {
            return;
        }
        if first == Some('\\') {
            self.blank();
        }
        self.blank();
        while self.peek(0).is_some_and(|byte| byte != b'\'') {
            self.blank();
        }
        if self.peek(0).is_some() {
            self.keep();
        }
    }
}

/// Finds the items under `#[cfg(test)]` by their braces.
fn test_lines(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(") {
        let start = from + at;
        from = start + "#[cfg(".len();
        let condition: String = code[from..].chars().take_while(|&c| c != ']').collect();
        let words: Vec<&str> = condition.split(|c: char| !c.is_alphanumeric()).collect();
        if !words.contains(&"test") || words.contains(&"not") || words.contains(&"any") {
            continue;
        }
        let end = item_end(code, from + condition.len());
        let line = |at: usize| code[..at].matches('\n').count() + 1;
        found.push((line(start), line(end)));
        from = end;
    }
    found
}

/// The end of the item that begins at or behind `from`: its closing brace, or a semicolon before any.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literals(text: &str) -> Vec<String> {
        let source = Source::read(text);
        source.literals.into_iter().map(|l| l.text).collect()
    }

    #[test]
    fn comments_hold_no_literals() {
        let text = "// \"a\"\n/* \"b\" /* \"c\" */ \"d\" */ let x = \"e\"; /// \"f\"";
        assert_eq!(literals(text), ["e"]);
    }

    #[test]
    fn literals_hold_no_comments() {
        let source = Source::read(r#"let x = "http://a"; let y = "/* b";"#);
        assert!(source.comments.is_empty());
        assert_eq!(source.literals.len(), 2);
    }

    #[test]
    fn raw_byte_and_escaped_literals_are_read() {
        let text = r####"f(r"a\", r#"b"c"#, b"d", br##"e"#f"##, c"g", "h\"i", "j\n  k")"####;
        let want = ["a\\", "b\"c", "d", "e\"#f", "g", "h\"i", "j   k"];
        assert_eq!(literals(text), want);
    }

    #[test]
    fn lifetimes_raw_names_and_characters_are_no_literals() {
        let text = r#"fn f<'a>(r#in: &'a str, for_r: u8) { g('"', '\'', b'"', '\u{22}', "x") }"#;
        assert_eq!(literals(text), ["x"]);
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let source = Source::read("/* 1\n2 */\nlet a = \"3\n4\";\nlet b = \"5\"; // 5\n");
        let lines: Vec<usize> = source.literals.iter().map(|l| l.line).collect();
        assert_eq!(lines, [3, 5]);
        assert_eq!(source.comments.last().unwrap().line, 5);
        assert_eq!(source.code.lines().count(), 5);
    }

    #[test]
    fn test_modules_are_marked_to_their_end() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { \"}\"; }\n}\nfn c() {}\n\
            #[cfg(test)]\nmod more;\nfn d() {}\n#[cfg(not(test))]\nfn e() {}\n";
        let source = Source::read(text);
        assert_eq!(source.test_lines, [(2, 5), (7, 8)]);
    }

    #[test]
    fn text_beyond_ascii_is_kept() {
        let source = Source::read("let é = 'ß'; // ü\nlet x = \"ö\";");
        assert_eq!(source.literals[0].text, "ö");
        assert!(source.code.starts_with("let é ="));
    }
}
