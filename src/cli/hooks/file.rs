//! A file of the host that says what is run around the snapshots of a schedule: read with the line and column of every error.

use crate::cli::create_args::OnPreFailure;
use crate::cli::freeze_args::parse_timeout;
use crate::cli::schedule_file::{AtByte, FileError, located};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

const KEYS: &str = "mount, store, uuid, line, schedule, pre, post, timeout, on-failure";
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// What such a file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HookFile {
    /// Where the store is mounted, if that is said; one of these three is.
    pub(super) mount: Option<PathBuf>,
    /// Where it is.
    pub(super) store: Option<PathBuf>,
    /// Its number, as `snapfs info` tells it.
    pub(super) uuid: Option<String>,
    /// The line: empty for the main line, and otherwise the name of a clone.
    pub(super) line: String,
    /// The schedule; all if that is not said.
    pub(super) schedule: Option<String>,
    /// What is run before.
    pub(super) pre: Option<String>,
    /// What is run afterwards.
    pub(super) post: Option<String>,
    /// For how long each.
    pub(super) timeout: Duration,
    /// What becomes of the snapshot if the first fails.
    pub(super) on_failure: OnPreFailure,
}

/// From its text.
pub(super) fn read(text: &str) -> Result<HookFile, FileError> {
    located(text, parse(text))
}

fn parse(text: &str) -> AtByte<HookFile> {
    let file = DeTable::parse(text)
        .map_err(|e| (e.span().map_or(0, |span| span.start), e.message().trim().replace('\n', ", ")))?;
    let mut hook = HookFile {
        mount: None,
        store: None,
        uuid: None,
        line: String::new(),
        schedule: None,
        pre: None,
        post: None,
        timeout: TIMEOUT_DEFAULT,
        on_failure: OnPreFailure::Abort,
    };
    for (key, value) in file.get_ref() {
        let (name, at) = (&key.get_ref()[..], value.span().start);
        if !KEYS.split(", ").any(|known| known == name) {
            return Err((key.span().start, format!("'{name}' is no key; there are {KEYS}")));
        }
        let DeValue::String(text) = value.get_ref() else {
            return Err((at, format!("text in quotation marks: {name} = \"...\"")));
        };
        let text = text.to_string();
        let path = || match text.starts_with('/') {
            true => Ok(Some(PathBuf::from(&text))),
            false => Err((at, "a path from the root: \"/...\"".to_string())),
        };
        match name {
            "mount" => hook.mount = path()?,
            "store" => hook.store = path()?,
            "uuid" => hook.uuid = Some(text.to_lowercase().replace('-', "")),
            "line" if text == "." => hook.line = String::new(),
            "line" => match text.strip_prefix(".clones/").filter(|name| !name.is_empty()) {
                Some(clone) => hook.line = clone.to_string(),
                None => return Err((at, "\".\" for the main line, or \".clones/NAME\"".into())),
            },
            "schedule" => hook.schedule = Some(text),
            "pre" => hook.pre = Some(text),
            "post" => hook.post = Some(text),
            "timeout" => hook.timeout = parse_timeout(&text).map(Duration::from_secs).map_err(|e| (at, e))?,
            _ => {
                hook.on_failure = match &text[..] {
                    "abort" => OnPreFailure::Abort,
                    "crash-consistent" => OnPreFailure::CrashConsistent,
                    _ => return Err((at, "abort or crash-consistent".into())),
                }
            }
        }
    }
    if hook.mount.is_none() && hook.store.is_none() && hook.uuid.is_none() {
        return Err((0, "of which store is missing: mount, store or uuid".into()));
    }
    if hook.pre.is_none() && hook.post.is_none() {
        return Err((0, "what is to be run is missing: pre, post, or both".into()));
    }
    Ok(hook)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_errors_are_where_they_are() {
        let text = "mount = \"/data\"\nline = \".clones/x\"\nschedule = \"hourly\"\npre = \"a\"\npost = 'b'\n\
                    timeout = \"5m\"\non-failure = \"crash-consistent\"\n";
        let hook = read(text).unwrap();
        assert_eq!((hook.mount, &hook.line[..]), (Some("/data".into()), "x"));
        assert_eq!((hook.schedule.as_deref(), hook.pre.as_deref()), (Some("hourly"), Some("a")));
        assert_eq!(
            (hook.timeout, hook.on_failure),
            (Duration::from_secs(300), OnPreFailure::CrashConsistent)
        );
        let hook = read("uuid = \"A-B\"\npost = \"b\"\n").unwrap();
        assert_eq!((hook.uuid.as_deref(), hook.timeout), (Some("ab"), TIMEOUT_DEFAULT));
        assert_eq!((&hook.line[..], hook.on_failure), ("", OnPreFailure::Abort));
        for (text, line, column, what) in [
            ("", 1, 1, "of which store is missing"),
            ("mount = \"/data\"\n", 1, 1, "what is to be run is missing"),
            ("mount = \"data\"\n", 1, 9, "a path from the root"),
            ("mount = \"/data\"\nrun = \"x\"\n", 2, 1, "'run' is no key"),
            ("mount = \"/data\"\npre = 5\n", 2, 7, "quotation marks"),
            ("pre = \"a\"\ntimeout = \"0s\"\n", 2, 11, "no time"),
            ("pre = \"a\"\non-failure = \"panic\"\n", 2, 14, "abort or crash-consistent"),
            ("pre = \"a\"\nline = \"x\"\n", 2, 8, ".clones/NAME"),
            ("pre = \"a\n", 1, 9, ""),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
            assert!(error.what.contains(what), "{text}: {error}");
        }
    }
}
