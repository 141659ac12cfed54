//! Names that may be any bytes, in JSON and on a screen: the one place that decides how.
//!
//! In JSON a name is text under its key. Text cannot hold every name: one that is no UTF-8 is there with replacement
//! characters, and beside it, under the key with `_hex` behind, all its bytes. In a list the place of a name that needs no
//! such form is null there. On a screen what would garble a terminal, and each byte that is no UTF-8, is escaped, so that
//! two names never look the same.

use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The key of what text cannot hold of the name under `key`.
pub fn hex_key(key: &str) -> String {
    format!("{key}_hex")
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// The lossless form of what text cannot hold; null for other names.
fn hex(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(_) => Value::Null,
        Err(_) => bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().into(),
    }
}

fn bytes_of(text: &Value, hex: Option<&Value>) -> Option<Vec<u8>> {
    let Some(digits) = hex.and_then(Value::as_str) else {
        return Some(text.as_str()?.as_bytes().to_vec());
    };
    let digits = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    digits.collect()
}

/// Puts a name into a JSON object.
pub fn put(object: &mut Value, key: &str, name: impl AsRef<OsStr>) {
    let name = name.as_ref().as_bytes();
    object[key] = text(name);
    if let hex @ Value::String(_) = hex(name) {
        object[hex_key(key)] = hex;
    }
}

/// A name out of a JSON object, if one is there.
pub fn get(object: &Value, key: &str) -> Option<Vec<u8>> {
    bytes_of(object.get(key)?, object.get(hex_key(key)))
}

/// Puts a list of names into a JSON object.
pub fn put_list(object: &mut Value, key: &str, names: &[impl AsRef<OsStr>]) {
    let names = || names.iter().map(|name| name.as_ref().as_bytes());
    object[key] = names().map(text).collect();
    let hex: Vec<Value> = names().map(hex).collect();
    if hex.iter().any(|h| !h.is_null()) {
        object[hex_key(key)] = hex.into();
    }
}

/// A list of names out of a JSON object; `None` if there is none, or if it has something else in it.
pub fn get_list(object: &Value, key: &str) -> Option<Vec<Vec<u8>>> {
    let hex = object.get(hex_key(key)).and_then(Value::as_array);
    let texts = object.get(key)?.as_array()?.iter().enumerate();
    texts.map(|(i, text)| bytes_of(text, hex.and_then(|h| h.get(i)))).collect()
}

/// [`shown`] of a name as bytes.
pub fn shown_bytes(name: &[u8]) -> String {
    shown(OsStr::from_bytes(name))
}

/// A name for people: what would garble a terminal is escaped, and bytes that are no UTF-8 are `\xff`.
pub fn shown(name: impl AsRef<OsStr>) -> String {
    let mut out = String::new();
    for chunk in name.as_ref().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\'' => out.push(c),
                _ => out.extend(c.escape_debug()),
            }
        }
        chunk.invalid().iter().for_each(|b| out += &format!("\\x{b:02x}"));
    }
    out
}

/// A sentence for people, in which names are shown already: what would garble a terminal is escaped.
pub fn sentence(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NAMES: [&[u8]; 6] = [b"plain", b"", b"a\xffb", b"a\xfeb", "\u{e9}\n\u{1b}".as_bytes(), b"\\xff"];

    #[test]
    fn every_name_comes_back() {
        for name in NAMES {
            let mut object = json!({"other": 1});
            put(&mut object, "name", OsStr::from_bytes(name));
            let object: Value = serde_json::from_str(&object.to_string()).unwrap();
            assert_eq!(get(&object, "name").as_deref(), Some(name));
            assert_eq!(object.get("name_hex").is_some(), std::str::from_utf8(name).is_err());
        }
        let mut object = json!({});
        put_list(&mut object, "names", &NAMES.map(OsStr::from_bytes));
        assert_eq!(get_list(&object, "names").unwrap(), NAMES);
        assert_eq!(object["names_hex"], json!([null, null, "61ff62", "61fe62", null, null]));
        let mut plain = json!({});
        put_list(&mut plain, "names", &["a", "b"]);
        assert_eq!(plain, json!({"names": ["a", "b"]}));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for wrong in
            [json!({}), json!({"n": 1}), json!({"n": "a", "n_hex": "6"}), json!({"n": "a", "n_hex": "zz"})]
        {
            assert_eq!(get(&wrong, "n"), None, "{wrong}");
        }
        assert_eq!(get_list(&json!({"n": ["a", 1]}), "n"), None);
    }

    #[test]
    fn names_look_different() {
        let all: Vec<String> = NAMES.iter().map(|n| shown(OsStr::from_bytes(n))).collect();
        assert_eq!(all, ["plain", "", "a\\xffb", "a\\xfeb", "\u{e9}\\n\\u{1b}", "\\\\xff"]);
        assert_eq!(sentence(&format!("{}\n", all.join(" "))), format!("{}\\n", all.join(" ")));
        assert_eq!(shown("it's \"so\""), "it's \"so\"");
    }
}
