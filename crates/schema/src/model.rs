//! What a protocol definition says, after it is parsed. Nothing here knows the notation or Rust.

use std::fmt;
use std::path::PathBuf;

/// Every definition of one folder.
#[derive(Debug, Default)]
pub struct Protocol {
    /// One entry a file, in the order of the file names.
    pub files: Vec<File>,
}

/// One definition file, which becomes one Rust module.
#[derive(Debug)]
pub struct File {
    /// Where it was read, for error messages.
    pub path: PathBuf,
    /// The file's name without its ending: the name of the module.
    pub module: String,
    /// Whether it defines records of internal topics and not an API.
    pub internal: bool,
    /// The comment at the head of the file.
    pub notes: Vec<String>,
    /// The API, where the file defines one.
    pub api: Option<Api>,
    /// Every struct of the file; messages first in each group.
    pub structs: Vec<Struct>,
}

/// What clients need to know of an API before they send a request.
#[derive(Debug)]
pub struct Api {
    /// The name without "Request", such as `Produce`.
    pub name: String,
    /// The number in the request header.
    pub key: i16,
    /// Versions a broker advertises.
    pub versions: Versions,
    /// A version after those, where one is defined but not yet final.
    pub unstable: Option<i16>,
    /// The first version with compact lengths and tagged fields.
    pub flexible_from: Option<i16>,
    /// Where it is said.
    pub line: usize,
}

/// What a struct is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// The body of a request.
    Request,
    /// The body of a response.
    Response,
    /// A record of an internal topic, with the number it goes by.
    Record(Option<i16>),
    /// A part of one of the others.
    Part,
}

/// Fields in the order of the wire.
#[derive(Debug)]
pub struct Struct {
    /// Kafka's name for it; `Request` and `Response` for the two bodies of an API.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The versions it exists in.
    pub versions: Versions,
    /// The first version with compact lengths and tagged fields.
    pub flexible_from: Option<i16>,
    /// The comment above it.
    pub notes: Vec<String>,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Where it begins.
    pub line: usize,
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// In snake case.
    pub name: String,
    /// The type, of the element where it is an array.
    pub kind: Kind,
    /// Whether it is an array.
    pub is_array: bool,
    /// The versions in which it may be null.
    pub nullable: Option<Versions>,
    /// The versions it exists in.
    pub versions: Versions,
    /// Its tag, where it is a tagged field.
    pub tag: Option<u32>,
    /// What it is when a version lacks it, where that is not zero, empty or false.
    pub default: Option<Literal>,
    /// The comments above and beside it.
    pub notes: Vec<String>,
    /// Where it is.
    pub line: usize,
}

/// A default value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Literal {
    /// `null`
    Null,
    /// `true`
    True,
    /// A whole number.
    Number(i64),
}

/// The type of a field or of an array's element.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    ErrorCode,
    ProducerId,
    ProducerEpoch,
    Offset,
    LeaderEpoch,
    Timestamp,
    String,
    Bytes,
    Records,
    Struct(String),
}

impl Kind {
    /// The type for a word of the notation; a capital begins the name of a struct.
    pub fn from_word(word: &str) -> Option<Kind> {
        Some(match word {
            "bool" => Kind::Bool,
            "int8" => Kind::Int8,
            "int16" => Kind::Int16,
            "uint16" => Kind::Uint16,
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "float64" => Kind::Float64,
            "uuid" => Kind::Uuid,
            "error_code" => Kind::ErrorCode,
            "producer_id" => Kind::ProducerId,
            "producer_epoch" => Kind::ProducerEpoch,
            "offset" => Kind::Offset,
            "leader_epoch" => Kind::LeaderEpoch,
            "timestamp" => Kind::Timestamp,
            "string" => Kind::String,
            "bytes" => Kind::Bytes,
            "records" => Kind::Records,
            _ if word.starts_with(|first: char| first.is_ascii_uppercase()) => Kind::Struct(word.into()),
            _ => return None,
        })
    }

    /// The bytes it takes on the wire, where that is always the same.
    pub fn fixed_size(&self) -> Option<usize> {
        Some(match self {
            Kind::Bool | Kind::Int8 => 1,
            Kind::Int16 | Kind::Uint16 | Kind::ErrorCode | Kind::ProducerEpoch => 2,
            Kind::Int32 | Kind::LeaderEpoch => 4,
            Kind::Int64 | Kind::Float64 | Kind::ProducerId | Kind::Offset | Kind::Timestamp => 8,
            Kind::Uuid => 16,
            Kind::String | Kind::Bytes | Kind::Records | Kind::Struct(_) => return None,
        })
    }

    /// The least and greatest whole number it holds, where it holds whole numbers.
    pub fn number_range(&self) -> Option<(i64, i64)> {
        Some(match self {
            Kind::Int8 => (i8::MIN.into(), i8::MAX.into()),
            Kind::Int16 | Kind::ProducerEpoch => (i16::MIN.into(), i16::MAX.into()),
            Kind::Uint16 => (0, u16::MAX.into()),
            Kind::Int32 | Kind::LeaderEpoch => (i32::MIN.into(), i32::MAX.into()),
            Kind::Int64 | Kind::ProducerId | Kind::Offset | Kind::Timestamp => (i64::MIN, i64::MAX),
            _ => return None,
        })
    }
}

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Versions {
    /// The first one.
    pub first: i16,
    /// The last one.
    pub last: i16,
}

impl Versions {
    /// Whether `other` lies within.
    pub fn covers(self, other: Versions) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether `version` is one of them.
    pub fn contains(self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl File {
    /// The struct of that name.
    pub fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|s| s.name == name)
    }

    /// The fewest bytes a struct of that name can take on the wire, over all its versions.
    pub fn min_size(&self, name: &str) -> usize {
        let Some(found) = self.find(name) else { return 0 };
        (found.versions.first..=found.versions.last)
            .map(|version| self.min_size_at(found, version))
            .min()
            .unwrap_or(0)
    }

    fn min_size_at(&self, of: &Struct, version: i16) -> usize {
        let flexible = of.is_flexible(version);
        let fields = of.fields.iter().filter(|field| field.tag.is_none() && field.versions.contains(version));
        let sizes = fields.map(|field| match &field.kind {
            _ if field.is_array => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Kind::String => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Kind::Bytes | Kind::Records => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Kind::Struct(_) if field.nullable.is_some() => 1,
            Kind::Struct(name) => self.find(name).map_or(0, |part| self.min_size_at(part, version)),
            fixed => fixed.fixed_size().unwrap_or(0),
        });
        sizes.sum::<usize>() + usize::from(flexible)
    }
}

impl Struct {
    /// Whether lengths are compact and tagged fields allowed at `version`.
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }

    /// The tagged fields, by tag.
    pub fn tagged(&self) -> Vec<&Field> {
        let mut tagged: Vec<&Field> = self.fields.iter().filter(|field| field.tag.is_some()).collect();
        tagged.sort_by_key(|field| field.tag);
        tagged
    }
}
