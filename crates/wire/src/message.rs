//! What all messages have in common.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::decode_error::{DecodeError, Reason};
use crate::{ApiKey, Reader, Writer};

/// A message, or a struct within one. Its `Default` has the values a version has for fields it lacks.
pub trait Message: Default {
    /// Its name, for errors.
    const NAME: &'static str;
    /// No version takes fewer bytes than this.
    const MIN_SIZE: usize;

    /// Reads it in the form of `version`; an error stays in the reader.
    fn read(r: &mut Reader, version: i16) -> Self;

    /// Writes it in the form of `version`. Fields that `version` lacks are left out silently; null where
    /// `version` knows no null goes out as the empty value.
    fn encode(&self, w: &mut Writer, version: i16);

    /// Reads it in the form of `version`. What follows it in the frame is left unread.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let message = Self::read(r, version);
        r.check_within(Self::NAME)?;
        Ok(message)
    }
}

/// The body of a request.
pub trait Request: Message {
    /// The API.
    const KEY: ApiKey;
    /// The versions a broker advertises; see [`ApiKey::newest_version`] for what can be decoded beyond.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields; `i16::MAX` where there is none.
    const FLEXIBLE_FROM: i16;
    /// The body of the answer.
    type Response: Message;
}

/// A record of an internal topic: a key, a value, or both in one.
pub trait Record: Message {
    /// The versions that are known.
    const VERSIONS: RangeInclusive<i16>;

    /// The record as bytes behind `prefix`: the version for values and control records, the `TYPE` for the
    /// keys of the coordinators' topics, whose body is always version 0.
    fn to_bytes(&self, prefix: i16, version: i16) -> Bytes {
        let mut w = Writer::new();
        w.int16(prefix);
        self.encode(&mut w, version);
        w.finish_bytes()
    }

    /// The record of a value that begins with its version.
    fn from_versioned_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let version = r.int16();
        if !Self::VERSIONS.contains(&version) {
            r.fail(Reason::UnsupportedVersion(version));
        }
        Self::decode(&mut r, version)
    }
}
