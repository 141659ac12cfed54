//! Properties of files and directories: their names, and their values as a user writes them. It sets none.

use crate::clock::{self, SPAN_MAX};
use crate::format::provenance::DESCRIPTION_BYTES_MAX;
use crate::format::terms::THRESHOLD_FILES_MAX;
use crate::format::{Compression, Layout};
use crate::limits::SIDE_LIMIT_SECS;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// A property that can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Property {
    /// How content is compressed.
    Compression,
    /// Where content goes that is written over.
    Layout,
    /// After how long a clone goes.
    Expire,
    Trash,
    /// For how long a clone may be idle.
    Idle,
    /// How many clones there may be.
    ClonesMax,
    /// How many files have to be gone so that a snapshot of before is kept.
    Tripwire,
    /// How long one side of a mirror may keep the other waiting.
    Timeout,
    /// What is said about a snapshot.
    Description,
}

impl Property {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Property::Compression => "compression",
            Property::Layout => "layout",
            Property::Expire => "expire",
            Property::Trash => "trash",
            Property::Idle => "idle",
            Property::ClonesMax => "clones_max",
            Property::Tripwire => "tripwire",
            Property::Timeout => "timeout",
            Property::Description => "description",
        }
    }

    /// The extended attribute by which it is read and set.
    pub(super) fn attribute(self) -> String {
        format!("user.snapfs.{}", self.name())
    }

    /// From its name.
    pub(super) fn parse(text: &str) -> Result<Property, String> {
        match text {
            "compression" => Ok(Property::Compression),
            "layout" => Ok(Property::Layout),
            "expire" => Ok(Property::Expire),
            "trash" => Ok(Property::Trash),
            "idle" => Ok(Property::Idle),
            "clones_max" => Ok(Property::ClonesMax),
            "tripwire" => Ok(Property::Tripwire),
            "timeout" => Ok(Property::Timeout),
            "description" => Ok(Property::Description),
            _ => Err(format!(
                "there is no property '{text}'; there are: compression, description, layout, expire, idle, clones_max, trash, tripwire, timeout"
            )),
        }
    }
}

/// `PROPERTY=VALUE`, proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Assignment {
    pub(super) property: Property,
    /// Text, but for a description, which is bytes as they were given.
    pub(super) value: OsString,
}

impl Assignment {
    /// From an argument.
    pub(super) fn from_argument(argument: &OsStr) -> Result<Assignment, String> {
        if let Some(text) = argument.as_bytes().strip_prefix(b"description=") {
            if text.len() > DESCRIPTION_BYTES_MAX {
                return Err(format!("a description has {DESCRIPTION_BYTES_MAX} bytes at most"));
            }
            let value = OsStr::from_bytes(text).to_os_string();
            return Ok(Assignment { property: Property::Description, value });
        }
        Assignment::parse(argument.to_str().ok_or("only a description is text that is no UTF-8")?)
    }

    /// From text.
    fn parse(text: &str) -> Result<Assignment, String> {
        let (name, value) = text.split_once('=').ok_or("write PROPERTY=VALUE")?;
        let property = Property::parse(name)?;
        match property {
            Property::Compression | Property::Layout if value == "inherit" => {}
            Property::Layout => drop(parse_layout(value)?),
            Property::Compression => drop(parse_compression(value)?),
            Property::Description => {}
            Property::Tripwire if matches!(value, "on" | "off") => {}
            Property::Tripwire => {
                let files =
                    value.parse::<u32>().ok().filter(|files| (1..=THRESHOLD_FILES_MAX).contains(files));
                files
                    .ok_or_else(|| format!("'{value}' is neither on, off nor a number of files from 1 up"))?;
            }
            Property::Timeout => drop(parse_timeout(value)?),
            _ if value == "none" => {}
            Property::Expire | Property::Idle | Property::Trash => drop(parse_after(value)?),
            Property::ClonesMax => {
                let max = value.parse::<u32>().ok().filter(|max| *max != 0);
                max.ok_or_else(|| format!("'{value}' is neither none nor a number of clones from 1 up"))?;
            }
        }
        Ok(Assignment { property, value: value.into() })
    }
}

/// How long: a value of `--expire` and `--idle`, in seconds.
pub(super) fn parse_after(text: &str) -> Result<u64, String> {
    let wrong =
        |what: &str| format!("'{text}' is {what}: from 1s to {SPAN_MAX}, such as 90s, 15m, 12h, 7d, 2w");
    match clock::parse_span(text) {
        Some(after) if clock::is_span(after) => Ok(after),
        Some(_) => Err(wrong("too short or too long")),
        None => Err(wrong("no time")),
    }
}

/// How long one side of a mirror may keep the other waiting: a value of `timeout`, and of `--timeout`, in seconds.
pub(super) fn parse_timeout(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().or_else(|| clock::parse_span(text));
    let seconds = seconds.filter(|seconds| SIDE_LIMIT_SECS.contains(seconds));
    seconds.ok_or_else(|| format!("'{text}' is no time from 1s to 1h, such as 5s or 2m"))
}

/// A value of `layout`.
pub(super) fn parse_layout(text: &str) -> Result<Layout, String> {
    Layout::parse(text).ok_or_else(|| format!("'{text}' is neither row nor cow"))
}

/// The value of `--compression`.
pub(super) fn parse_compression(text: &str) -> Result<Compression, String> {
    Compression::parse(text).ok_or_else(|| format!("'{text}' is none of off, zstd, zstd:1 to zstd:19"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_proved() {
        for good in ["compression=off", "compression=zstd", "compression=zstd:19", "compression=inherit"] {
            assert!(Assignment::parse(good).is_ok(), "{good}");
        }
        for good in [
            "expire=7d",
            "expire=none",
            "idle=90s",
            "clones_max=1",
            "tripwire=off",
            "tripwire=50",
            "trash=1h",
            "expire=50000w",
        ] {
            assert!(Assignment::parse(good).is_ok(), "{good}");
        }
        for bad in ["expire=0d", "expire=7", "idle=inherit", "clones_max=0", "clones_max=many", "tripwire=0"]
        {
            assert!(Assignment::parse(bad).is_err(), "{bad}");
        }
        for bad in ["expire=50001w", "idle=999999999w", "trash=99999999999999999999w"] {
            let told = Assignment::parse(bad).unwrap_err();
            assert!(told.ends_with("from 1s to 50000w, such as 90s, 15m, 12h, 7d, 2w"), "{told}");
        }
        for good in ["timeout=5", "timeout=5s", "timeout=1h"] {
            assert!(Assignment::parse(good).is_ok(), "{good}");
        }
        for bad in ["timeout=0", "timeout=none", "timeout=2h", "timeout=inherit", "timeout=soon"] {
            let told = Assignment::parse(bad).unwrap_err();
            assert!(told.ends_with("from 1s to 1h, such as 5s or 2m"), "{told}");
        }
        let told = Assignment::from_argument(OsStr::from_bytes(b"description=a=\xff"));
        assert_eq!(told.map(|told| told.value.as_bytes().to_vec()), Ok(b"a=\xff".to_vec()));
        assert!(Assignment::from_argument(OsStr::new("description=")).is_ok());
        let long = format!("description={}", "x".repeat(DESCRIPTION_BYTES_MAX + 1));
        assert!(Assignment::from_argument(OsStr::new(&long)).is_err());
        assert!(Assignment::from_argument(OsStr::from_bytes(b"trash=\xff")).is_err());
        for good in ["layout=cow", "layout=row", "layout=inherit"] {
            assert!(Assignment::parse(good).is_ok(), "{good}");
        }
        for bad in ["compression", "compression=", "compression=lz4", "layout=mirror", "layout=", "=zstd", ""]
        {
            assert!(Assignment::parse(bad).is_err(), "{bad}");
        }
    }
}
