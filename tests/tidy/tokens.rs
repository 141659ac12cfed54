//! Rust text as words and signs: without comments, without what stands in quotes.

/// A word, `::`, or one other sign, with the number of its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'t> {
    pub line: usize,
    pub text: &'t str,
}

impl Token<'_> {
    /// True for names, keywords and numbers.
    pub fn is_word(&self) -> bool {
        self.text.starts_with(is_part)
    }
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The tokens of numbered lines of which each ends outside of block comments. Quotes may span lines.
pub fn tokens<'t>(lines: impl Iterator<Item = (usize, &'t str)>) -> Vec<Token<'t>> {
    let (mut out, mut quote): (Vec<Token<'_>>, Option<String>) = (Vec::new(), None);
    for (line, mut rest) in lines {
        loop {
            if let Some(end) = &quote {
                let Some(behind) = behind_quote(rest, end) else { break };
                (rest, quote) = (behind, None);
            }
            rest = rest.trim_start();
            if rest.is_empty() || rest.starts_with("//") {
                break;
            }
            if let Some((end, behind)) = opens_quote(rest) {
                (quote, rest) = (Some(end), behind);
                continue;
            }
            let len = match rest.chars().next() {
                Some('\'') => char_or_lifetime(rest),
                Some(c) if is_part(c) => rest.find(|c| !is_part(c)).unwrap_or(rest.len()),
                Some(':') if rest.starts_with("::") => 2,
                c => c.map_or(1, char::len_utf8),
            };
            if !rest.starts_with('\'') {
                out.push(Token { line, text: &rest[..len] });
            }
            rest = &rest[len..];
        }
    }
    out
}

/// What closes a string that opens here, and the text behind its opening.
fn opens_quote(text: &str) -> Option<(String, &str)> {
    let plain = text.strip_prefix('b').unwrap_or(text);
    if let Some(rest) = plain.strip_prefix('"') {
        return Some(("\"".into(), rest));
    }
    let raw = plain.strip_prefix('r')?;
    let rest = raw.trim_start_matches('#');
    let marks = raw.len() - rest.len();
    Some((format!("\"{}", "#".repeat(marks)), rest.strip_prefix('"')?))
        .filter(|(end, _)| end.len() > 1 || marks == 0)
}

/// The text behind the end of a string.
fn behind_quote<'t>(text: &'t str, end: &str) -> Option<&'t str> {
    if end.len() > 1 {
        return text.split_once(end).map(|(_, rest)| rest);
    }
    let mut escaped = false;
    let at = text.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some(&text[at + 1..])
}

/// The length of `'x'`, `'\n'` or `'life`.
fn char_or_lifetime(text: &str) -> usize {
    let inner = &text[1..];
    if let Some(escape) = inner.strip_prefix('\\') {
        let first = escape.chars().next().map_or(0, char::len_utf8);
        return escape[first..].find('\'').map_or(text.len(), |at| 2 + first + at + 1);
    }
    let first = inner.chars().next().map_or(0, char::len_utf8);
    if inner[first..].starts_with('\'') {
        return 1 + first + 1;
    }
    1 + inner.find(|c| !is_part(c)).unwrap_or(inner.len())
}

#[test]
fn comments_and_quotes_are_no_words() {
    let text = "let a = \"x // y\"; // no\nlet b: &'static str = r#\"q \" q\"#; let c = ('\\'', b'\"', '{');\n\"over\nlines\" crate::d";
    let found = tokens(text.lines().enumerate());
    let words: Vec<&str> = found.iter().filter(|t| t.is_word()).map(|t| t.text).collect();
    assert_eq!(words, ["let", "a", "let", "b", "str", "let", "c", "b", "crate", "d"]);
    assert_eq!(found.last().map(|t| t.line), Some(3));
    assert!(!found.iter().any(|t| t.text == "{"));
}
