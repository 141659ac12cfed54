//! Patterns of names, as a shell has them: `*`, `?`, `[a-z]`, `[!a-z]`, and a backslash before what is meant as it is.
//!
//! A name is bytes. `?` and a class stand for one character where the name is UTF-8, else for one byte. What a name begins with that
//! is reserved, `@` or `.`, has to be written out: `*` alone never means what was made automatically. Costs the product of both
//! lengths at most.

/// A pattern, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Many,
    One,
    Class { ranges: Vec<(u32, u32)>, negated: bool },
    Byte(u8),
}

/// True if a name can be meant as a pattern.
pub(super) fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'))
}

/// A word that means a name alone, wherever names go before patterns: another name is not that word, and when the name is gone nothing
/// else is meant.
pub(super) fn literal(name: &[u8], mut is_another: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    if !is_pattern(name) {
        return name.to_vec();
    }
    // A class may say its one character as often as it likes: there are more such words than names.
    let as_class = |byte: u8, times: usize| {
        let one = if byte == b'\\' { &br"\\"[..] } else { &[byte][..] };
        [b"[", &one.repeat(times)[..], b"]"].concat()
    };
    let word = |times: usize| -> Vec<u8> {
        let part = |byte: &u8| match (is_pattern(&[*byte]), times) {
            (false, _) => vec![*byte],
            (true, 0) => vec![b'\\', *byte],
            (true, times) => as_class(*byte, times),
        };
        name.iter().flat_map(part).collect()
    };
    let mut times = 0;
    loop {
        let word = word(times);
        if !is_another(&word) {
            return word;
        }
        times += 1;
    }
}

/// The character that bytes begin with, or their first byte if they begin with none, and how long it is.
fn first_of(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    let whole = |len: usize| std::str::from_utf8(bytes.get(..len)?).ok()?.chars().next();
    let found = (1..=4).find_map(whole);
    Some(found.map_or((u32::from(first), 1), |c| (u32::from(c), c.len_utf8())))
}

impl Pattern {
    /// Takes one apart. A bracket without its end, and a backslash at the end, are meant as they are.
    pub(super) fn parse(text: &[u8]) -> Pattern {
        let (mut parts, mut at) = (Vec::new(), 0);
        while let Some(byte) = text.get(at) {
            at += 1;
            parts.push(match byte {
                b'*' => Part::Many,
                b'?' => Part::One,
                b'\\' if at < text.len() => {
                    at += 1;
                    Part::Byte(text[at - 1])
                }
                b'[' => match class(&text[at..]) {
                    Some((part, len)) => {
                        at += len;
                        part
                    }
                    None => Part::Byte(b'['),
                },
                byte => Part::Byte(*byte),
            });
        }
        Pattern(parts)
    }

    /// True if it means that name.
    pub(super) fn means(&self, name: &[u8]) -> bool {
        let is_reserved = name.first().is_some_and(|b| matches!(b, b'@' | b'.'));
        if is_reserved && self.0.first() != name.first().map(|b| Part::Byte(*b)).as_ref() {
            return false;
        }
        // Where to go on if what is tried fails: behind the last `*`, with one character more for it.
        let (mut part, mut at, mut retry) = (0, 0, None);
        loop {
            match self.0.get(part) {
                None if at == name.len() => return true,
                Some(Part::Many) => {
                    retry = Some((part, at));
                    part += 1;
                    continue;
                }
                Some(wanted) => {
                    if let Some(len) = wanted.matched(&name[at..]) {
                        part += 1;
                        at += len;
                        continue;
                    }
                }
                None => {}
            }
            let Some((many, from)) = retry.filter(|(_, from)| *from < name.len()) else { return false };
            let from = from + first_of(&name[from..]).map_or(1, |(_, len)| len);
            retry = Some((many, from));
            (part, at) = (many + 1, from);
        }
    }
}

impl Part {
    /// How long what it means is at the beginning of this.
    fn matched(&self, name: &[u8]) -> Option<usize> {
        let (c, len) = first_of(name)?;
        match self {
            Part::Many => None,
            Part::One => Some(len),
            Part::Class { ranges, negated } => {
                let is_in = ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
                (is_in != *negated).then_some(len)
            }
            Part::Byte(byte) => (name[0] == *byte).then_some(1),
        }
    }
}

/// A class behind its bracket, and how long it is with its end.
fn class(text: &[u8]) -> Option<(Part, usize)> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let (mut at, mut ranges) = (usize::from(negated), Vec::new());
    let first = at;
    loop {
        if at > first && text.get(at) == Some(&b']') {
            return Some((Part::Class { ranges, negated }, at + 1));
        }
        let (from, len) = character(&text[at..])?;
        at += len;
        let is_range = text.get(at) == Some(&b'-') && text.get(at + 1).is_some_and(|b| *b != b']');
        let to = if is_range {
            let (to, len) = character(&text[at + 1..])?;
            at += 1 + len;
            to
        } else {
            from
        };
        ranges.push((from, to));
    }
}

/// A character of a class, which a backslash may stand before.
fn character(text: &[u8]) -> Option<(u32, usize)> {
    match text.first()? {
        b'\\' => first_of(&text[1..]).map(|(c, len)| (c, len + 1)),
        _ => first_of(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plainest way to tell: tries everything.
    fn means(parts: &[Part], name: &[u8]) -> bool {
        match parts.split_first() {
            None => name.is_empty(),
            Some((Part::Many, rest)) => {
                means(rest, name) || first_of(name).is_some_and(|(_, len)| means(parts, &name[len..]))
            }
            Some((part, rest)) => part.matched(name).is_some_and(|len| means(rest, &name[len..])),
        }
    }

    #[test]
    fn a_name_is_told_as_what_means_it_alone() {
        let [plain, brackets] = [br"a\*b".to_vec(), b"a[*]b".to_vec()];
        for others in [vec![], vec![plain.clone()], vec![plain, brackets, b"a[**]b".to_vec()]] {
            for name in
                [&b"build[1]"[..], b"*", br"a\?", b"-x", b"plain", b"a*b", br"\", b"]]", b"@x*", b"\xff?"]
            {
                let word = literal(name, |word| others.iter().any(|other| other == word));
                assert!(word == name || !others.contains(&word));
                assert!(word == name || is_pattern(&word));
                let all = others.iter().map(|name| &name[..]).chain([name, b"build1", b"aab", b"a", b"@xy"]);
                let meant: Vec<&[u8]> = all.filter(|name| Pattern::parse(&word).means(name)).collect();
                assert_eq!(meant, [name], "{}", String::from_utf8_lossy(&word));
            }
        }
    }

    #[test]
    fn names_are_meant_as_in_a_shell() {
        for (pattern, name, is) in [
            ("nightly-*", "nightly-1", true),
            ("nightly-*", "nightly-", true),
            ("nightly-*", "weekly-1", false),
            ("*", "", true),
            ("*", "a", true),
            ("*", "@GMT-2026", false),
            ("@GMT-*", "@GMT-2026", true),
            ("?GMT-*", "@GMT-2026", false),
            ("[@]GMT-*", "@GMT-2026", false),
            ("\\@GMT-*", "@GMT-2026", true),
            ("a?c", "abc", true),
            ("a?c", "a\u{e9}c", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]]x", "]x", true),
            ("[a-]x", "-x", true),
            ("[\u{e0}-\u{ef}]", "\u{e9}", true),
            ("[a", "[a", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1b2", false),
            ("*a", "ba", true),
            ("**a**", "xay", true),
        ] {
            assert_eq!(Pattern::parse(pattern.as_bytes()).means(name.as_bytes()), is, "{pattern} {name}");
        }
        let odd = Pattern::parse(b"a?\xff*");
        assert!(odd.means(b"a\xfe\xffx") && !odd.means(b"a\xff"));
        assert!(is_pattern(b"a*") && is_pattern(b"[a]") && !is_pattern(b"@GMT-2026"));
    }

    #[test]
    fn it_is_the_same_as_trying_everything() {
        let mut seed = 1u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let mut met = 0;
        for _ in 0..20_000 {
            let letters: [&[u8]; 8] =
                [b"a", b"b", b"*", b"?", b"[ab]", b"[!a]", "\u{e9}".as_bytes(), b"\xff"];
            let pattern: Vec<u8> =
                (0..random(7)).flat_map(|_| letters[random(8) as usize].to_vec()).collect();
            let letters: [&[u8]; 4] = [b"a", b"b", "\u{e9}".as_bytes(), b"\xff"];
            let name: Vec<u8> = (0..random(7)).flat_map(|_| letters[random(4) as usize].to_vec()).collect();
            let parsed = Pattern::parse(&pattern);
            let is = parsed.means(&name);
            met += usize::from(is);
            assert_eq!(is, means(&parsed.0, &name), "{pattern:?} {name:?}");
        }
        assert!(met > 1000, "{met}");
    }
}
