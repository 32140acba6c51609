//! The APIs: their numbers, names and versions.

use std::fmt;
use std::ops::RangeInclusive;

/// Makes [`ApiKey`] of a table with the columns key, name, first version, last stable version, newest version,
/// first flexible version. The table comes from the build script.
macro_rules! api_keys {
    ($($key:literal $name:ident $first:literal $last:literal $newest:literal $flexible:literal,)*) => {
        /// The APIs of the broker's listener.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// All of them, by number.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$name,)*];

            /// The API of that number, if there is one.
            pub fn from_i16(key: i16) -> Option<ApiKey> {
                match key {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name, such as `InitProducerId`.
            pub fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            /// First, last stable, newest and first flexible version.
            pub(crate) fn row(self) -> [i16; 4] {
                match self {
                    $(ApiKey::$name => [$first, $last, $newest, $flexible],)*
                }
            }
        }
    };
}
pub(crate) use api_keys;

use crate::ApiKey;

impl ApiKey {
    /// The number in the request header.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// The versions a broker advertises.
    pub fn versions(self) -> RangeInclusive<i16> {
        let [first, last, ..] = self.row();
        first..=last
    }

    /// The last version that is defined, which may be one that is not yet final.
    pub fn newest_version(self) -> i16 {
        self.row()[2]
    }

    /// The first version with compact lengths and tagged fields; `i16::MAX` where there is none.
    pub fn flexible_from(self) -> i16 {
        self.row()[3]
    }

    /// Whether the request header ends with tagged fields (version 2) or not (version 1).
    pub fn request_header_version(self, version: i16) -> i16 {
        if version >= self.flexible_from() { 2 } else { 1 }
    }

    /// Whether the response header ends with tagged fields (version 1) or not (version 0). That of ApiVersions
    /// never does: a client sends it before it knows what the broker understands.
    pub fn response_header_version(self, version: i16) -> i16 {
        if version >= self.flexible_from() && self != ApiKey::ApiVersions { 1 } else { 0 }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_reads_back_from_its_number() {
        assert_eq!(ApiKey::ALL.len(), 77);
        for &key in ApiKey::ALL {
            assert_eq!(ApiKey::from_i16(key.code()), Some(key));
        }
        assert_eq!(ApiKey::from_i16(4), None);
        assert_eq!(ApiKey::InitProducerId.name(), "InitProducerId");
    }

    #[test]
    fn a_version_that_is_not_final_is_not_advertised() {
        assert_eq!(ApiKey::InitProducerId.versions(), 0..=5);
        assert_eq!(ApiKey::InitProducerId.newest_version(), 6);
        assert_eq!(ApiKey::Produce.versions(), 3..=13);
        assert_eq!(ApiKey::Produce.newest_version(), 13);
    }
}
