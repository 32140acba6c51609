//! How the text of a checked value becomes a typed setting.

use std::str::FromStr;
use std::time::Duration;

/// Declares a struct of settings: each field with its type, its key and the function that reads the key's value.
macro_rules! settings {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($visibility:vis $field:ident: $type:ty = $key:literal, $read:ident;)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(#[doc = concat!("`", $key, "`")] $visibility $field: $type,)*
        }

        impl $name {
            fn read(value: impl Fn(&'static str) -> Option<String>) -> $name {
                $name { $($field: $read(value($key).as_deref()),)* }
            }
        }
    };
}
pub(super) use settings;

const CHECKED: &str = "values were checked against the key table";

/// A number of the type the table declares.
pub(super) fn number<T: FromStr>(text: Option<&str>) -> T {
    text.and_then(|text| text.parse().ok()).expect(CHECKED)
}

/// A number of bytes; negative is no limit.
pub(super) fn number_or_unlimited(text: Option<&str>) -> Option<u64> {
    u64::try_from(number::<i64>(text)).ok()
}

/// A span in milliseconds.
pub(super) fn millis(text: Option<&str>) -> Duration {
    millis_or_never(text).unwrap_or_default()
}

/// A span in milliseconds; negative is for ever.
pub(super) fn millis_or_never(text: Option<&str>) -> Option<Duration> {
    u64::try_from(number::<i64>(text)).ok().map(Duration::from_millis)
}

/// A span in minutes.
pub(super) fn minutes(text: Option<&str>) -> Duration {
    Duration::from_secs(60 * u64::try_from(number::<i32>(text)).unwrap_or_default())
}

/// true or false.
pub(super) fn flag(text: Option<&str>) -> bool {
    text == Some("true")
}

/// Text; empty where there is none.
pub(super) fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

/// Text, where there is some.
pub(super) fn optional_text(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

/// The elements of a list; none where there is no list.
pub(super) fn words(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
