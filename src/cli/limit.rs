//! How fast a scrub may read, as a user writes it.

use super::output;

/// The limit that is none.
pub(super) const UNLIMITED: u64 = u64::MAX;

/// A limit as a user writes it.
pub(super) fn parse_limit(text: &str) -> Result<u64, String> {
    match text {
        "auto" => Ok(0),
        "none" => Ok(UNLIMITED),
        _ => match output::parse_size(text.strip_suffix("/s").unwrap_or(text))? {
            0 => Err("a limit of 0 would be no scrub: use --pause, or none for no limit".into()),
            bytes => Ok(bytes),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        assert_eq!(parse_limit("20M"), Ok(20 << 20));
        assert_eq!(parse_limit("1.5MiB/s"), Ok(3 << 19));
        assert_eq!((parse_limit("auto"), parse_limit("none")), (Ok(0), Ok(UNLIMITED)));
        assert!(parse_limit("0").is_err() && parse_limit("fast").is_err());
    }
}
