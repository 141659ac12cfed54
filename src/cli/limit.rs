//! How fast a scrub may read, or a side be filled, as a user writes it.

use super::output;

/// The limit that is none.
pub(super) const UNLIMITED: u64 = u64::MAX;

/// The limit of a scrub as a user writes it.
pub(super) fn parse_limit(text: &str) -> Result<u64, String> {
    parse(text, "no scrub")
}

/// The same of what a side is filled at.
pub(super) fn parse_rate(text: &str) -> Result<u64, String> {
    parse(text, "no copy")
}

fn parse(text: &str, nothing: &str) -> Result<u64, String> {
    match text {
        "auto" => Ok(0),
        "none" => Ok(UNLIMITED),
        _ => match output::parse_size(text.strip_suffix("/s").unwrap_or(text))? {
            0 => Err(format!("a limit of 0 would be {nothing}: use --pause, or none for no limit")),
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
        assert!(parse_rate("0").unwrap_err().contains("no copy"));
        assert!(parse_limit("0").is_err() && parse_limit("fast").is_err());
    }
}
