//! Properties of files and directories: their names, and their values as a user writes them. It sets none.

use crate::format::Compression;

/// A property that can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Property {
    /// How content is compressed.
    Compression,
}

impl Property {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Property::Compression => "compression",
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
            _ => Err(format!("there is no property '{text}'; there is: compression")),
        }
    }
}

/// `PROPERTY=VALUE`, proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Assignment {
    pub(super) property: Property,
    pub(super) value: String,
}

impl Assignment {
    /// From the text of an argument.
    pub(super) fn parse(text: &str) -> Result<Assignment, String> {
        let (name, value) = text.split_once('=').ok_or("write PROPERTY=VALUE")?;
        let property = Property::parse(name)?;
        if value != "inherit" {
            parse_compression(value)?;
        }
        Ok(Assignment { property, value: value.to_string() })
    }
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
        for bad in ["compression", "compression=", "compression=lz4", "layout=cow", "=zstd", ""] {
            assert!(Assignment::parse(bad).is_err(), "{bad}");
        }
    }
}
