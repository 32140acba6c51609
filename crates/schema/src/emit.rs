//! From definitions to the Rust of the messages: one module a file, one struct and one `Message` a block.
//!
//! The emitted code leans on `Reader` and `Writer` of the `wire` crate, so that little of it is needed.

use std::fmt::{self, Write};

use crate::model::{Api, Field, File, Kind, Literal, Protocol, Role, Struct, Versions};

/// The Rust of all messages, as the content of one module of the `wire` crate.
pub fn messages(protocol: &Protocol) -> String {
    let mut out = String::new();
    write_messages(&mut out, protocol).expect("writing to a string does not fail");
    out
}

fn write_messages(out: &mut String, protocol: &Protocol) -> fmt::Result {
    let (internal, public): (Vec<&File>, Vec<&File>) = protocol.files.iter().partition(|file| file.internal);
    write_api_keys(out, &public)?;
    for file in public {
        write_module(out, file)?;
    }
    writeln!(out, "/// Records of internal topics, and other bytes that brokers or clients keep.")?;
    writeln!(out, "pub mod internal {{")?;
    for file in internal {
        write_module(out, file)?;
    }
    writeln!(out, "}}")
}

/// The rows of the table that `api_key.rs` makes the enum of.
fn write_api_keys(out: &mut String, files: &[&File]) -> fmt::Result {
    let mut apis: Vec<&Api> = files.iter().filter_map(|file| file.api.as_ref()).collect();
    apis.sort_by_key(|api| api.key);
    writeln!(out, "crate::api_key::api_keys! {{")?;
    for Api { name, key, versions, unstable, flexible_from, .. } in apis {
        let Versions { first, last } = versions;
        let newest = unstable.unwrap_or(*last);
        let flexible = flexible_from.unwrap_or(i16::MAX);
        writeln!(out, "    {key} {name} {first} {last} {newest} {flexible},")?;
    }
    writeln!(out, "}}")
}

fn write_module(out: &mut String, file: &File) -> fmt::Result {
    let notes = file.notes.iter().filter(|note| !note.is_empty());
    match &file.api {
        Some(api) => writeln!(out, "/// {} (key {}).", api.name, api.key)?,
        None => writeln!(out, "/// Records of `{}.api`.", file.module)?,
    }
    for (at, note) in notes.enumerate() {
        writeln!(out, "{}/// {note}", if at == 0 { "///\n" } else { "" })?;
    }
    writeln!(out, "pub mod {} {{", file.module)?;
    writeln!(out, "use crate::{{Message, Reader, Writer}};\n")?;
    for of in &file.structs {
        write_struct(out, of)?;
        write_default(out, of)?;
        write_message(out, file, of)?;
        write_role(out, file, of)?;
    }
    writeln!(out, "}}\n")
}

fn write_struct(out: &mut String, of: &Struct) -> fmt::Result {
    write_notes(out, &of.notes)?;
    let default = if of.fields.iter().all(is_default_natural) { ", Default" } else { "" };
    writeln!(out, "#[derive(Clone, Debug, PartialEq{default})]")?;
    writeln!(out, "pub struct {} {{", of.name)?;
    for field in &of.fields {
        write_notes(out, &field.notes)?;
        writeln!(out, "    pub {}: {},", identifier(&field.name), rust_type(field))?;
    }
    writeln!(out, "}}\n")
}

fn write_notes(out: &mut String, notes: &[String]) -> fmt::Result {
    notes.iter().try_for_each(|note| writeln!(out, "    /// {note}"))
}

fn write_default(out: &mut String, of: &Struct) -> fmt::Result {
    if of.fields.iter().all(is_default_natural) {
        return Ok(());
    }
    writeln!(out, "impl Default for {} {{", of.name)?;
    writeln!(out, "    fn default() -> Self {{")?;
    writeln!(out, "        Self {{")?;
    for field in &of.fields {
        writeln!(out, "            {}: {},", identifier(&field.name), default_value(field))?;
    }
    writeln!(out, "        }}\n    }}\n}}\n")
}

fn write_message(out: &mut String, file: &File, of: &Struct) -> fmt::Result {
    writeln!(out, "impl Message for {} {{", of.name)?;
    writeln!(out, "    const NAME: &'static str = {:?};", full_name(file, of))?;
    writeln!(out, "    const MIN_SIZE: usize = {};\n", file.min_size(&of.name))?;
    write_read(out, of)?;
    write_encode(out, of)?;
    writeln!(out, "}}\n")
}

fn write_role(out: &mut String, file: &File, of: &Struct) -> fmt::Result {
    let Versions { first, last } = of.versions;
    match (&of.role, &file.api) {
        (Role::Request, Some(api)) => {
            let Versions { first, last } = api.versions;
            let flexible = api.flexible_from.unwrap_or(i16::MAX);
            writeln!(out, "impl crate::Request for Request {{")?;
            writeln!(out, "    const KEY: crate::ApiKey = crate::ApiKey::{};", api.name)?;
            writeln!(out, "    const VERSIONS: std::ops::RangeInclusive<i16> = {first}..={last};")?;
            writeln!(out, "    const FLEXIBLE_FROM: i16 = {flexible};")?;
            writeln!(out, "    type Response = Response;\n}}\n")
        }
        (Role::Record(number), _) => {
            if let Some(number) = number {
                writeln!(out, "impl {} {{", of.name)?;
                writeln!(out, "    /// The number records of this kind go by.")?;
                writeln!(out, "    pub const TYPE: i16 = {number};\n}}\n")?;
            }
            writeln!(out, "impl crate::Record for {} {{", of.name)?;
            writeln!(out, "    const VERSIONS: std::ops::RangeInclusive<i16> = {first}..={last};\n}}\n")
        }
        _ => Ok(()),
    }
}

// Reading

fn write_read(out: &mut String, of: &Struct) -> fmt::Result {
    writeln!(out, "    fn read(r: &mut Reader, version: i16) -> Self {{")?;
    write_flexible(out, of)?;
    writeln!(out, "        let mut m = Self::default();")?;
    for field in of.fields.iter().filter(|field| field.tag.is_none()) {
        let target = format!("m.{}", identifier(&field.name));
        match condition(field.versions, of.versions) {
            Some(condition) => {
                writeln!(out, "        if {condition} {{ {target} = {}; }}", read_value(field))?
            }
            None => writeln!(out, "        {target} = {};", read_value(field))?,
        }
    }
    let tagged = of.tagged();
    if of.flexible_from.is_some() && tagged.is_empty() {
        writeln!(out, "        if flexible {{ r.skip_tagged_fields(); }}")?;
    } else if of.flexible_from.is_some() {
        writeln!(out, "        if flexible {{")?;
        writeln!(out, "            r.tagged_fields(|r, tag| {{")?;
        writeln!(out, "                match tag {{")?;
        for field in tagged {
            let guard =
                condition(field.versions, of.versions).map(|c| format!(" if {c}")).unwrap_or_default();
            let tag = field.tag.unwrap_or_default();
            let target = identifier(&field.name);
            writeln!(out, "                    {tag}{guard} => m.{target} = {},", read_value(field))?;
        }
        writeln!(out, "                    _ => return false,")?;
        writeln!(out, "                }}\n                true\n            }});\n        }}")?;
    }
    writeln!(out, "        m\n    }}\n")
}

fn read_value(field: &Field) -> String {
    let Some(nullable) = field.nullable else { return read_as(field, false) };
    match condition(nullable, field.versions) {
        None => read_as(field, true),
        Some(condition) => {
            format!(
                "if {condition} {{ {} }} else {{ Some({}) }}",
                read_as(field, true),
                read_as(field, false)
            )
        }
    }
}

fn read_as(field: &Field, nullable: bool) -> String {
    let prefix = if nullable { "nullable_" } else { "" };
    match &field.kind {
        Kind::Struct(_) if field.is_array => format!("r.{prefix}structures(flexible, version)"),
        Kind::Struct(_) if nullable && field.tag.is_some() => "r.nullable_tagged_structure(version)".into(),
        Kind::Struct(_) => format!("r.{prefix}structure(version)"),
        kind if field.is_array => {
            let size = kind.fixed_size().unwrap_or(1);
            format!("r.{prefix}array(flexible, {size}, |r| {})", read_element(kind, ""))
        }
        kind => read_element(kind, prefix),
    }
}

fn read_element(kind: &Kind, nullable: &str) -> String {
    match kind {
        Kind::String => format!("r.{nullable}string(flexible)"),
        Kind::Bytes => format!("r.{nullable}bytes(flexible)"),
        Kind::Records => format!("r.{nullable}records(flexible)"),
        Kind::ErrorCode => "crate::ErrorCode::from_code(r.int16())".into(),
        Kind::ProducerId | Kind::ProducerEpoch | Kind::Offset | Kind::LeaderEpoch | Kind::Timestamp => {
            format!("{}(r.{}())", rust_name(kind), wire_word(kind))
        }
        kind => format!("r.{}()", wire_word(kind)),
    }
}

// Writing

fn write_encode(out: &mut String, of: &Struct) -> fmt::Result {
    writeln!(out, "    fn encode(&self, w: &mut Writer, version: i16) {{")?;
    write_flexible(out, of)?;
    for field in of.fields.iter().filter(|field| field.tag.is_none()) {
        match condition(field.versions, of.versions) {
            Some(condition) => writeln!(out, "        if {condition} {{ {} }}", write_value(field))?,
            None => writeln!(out, "        {}", write_value(field))?,
        }
    }
    let tagged = of.tagged();
    if of.flexible_from.is_some() && tagged.is_empty() {
        writeln!(out, "        if flexible {{ w.no_tagged_fields(); }}")?;
    } else if of.flexible_from.is_some() {
        writeln!(out, "        if flexible {{")?;
        writeln!(out, "            let present = [")?;
        for field in &tagged {
            let version =
                condition(field.versions, of.versions).map(|c| format!("{c} && ")).unwrap_or_default();
            let name = identifier(&field.name);
            writeln!(out, "                {version}self.{name} != {},", default_value(field))?;
        }
        writeln!(out, "            ];")?;
        writeln!(out, "            w.tagged_field_count(&present);")?;
        for (at, field) in tagged.iter().enumerate() {
            let tag = field.tag.unwrap_or_default();
            let value = write_value(field);
            writeln!(out, "            if present[{at}] {{ w.tagged_field({tag}, |w| {{ {value} }}); }}")?;
        }
        writeln!(out, "        }}")?;
    }
    writeln!(out, "    }}")
}

fn write_value(field: &Field) -> String {
    let place = format!("self.{}", identifier(&field.name));
    let Some(nullable) = field.nullable else { return write_as(field, &place, false) };
    let optional = if matches!(field.kind, Kind::Struct(_) | Kind::Records) && !field.is_array {
        format!("{place}.as_ref()")
    } else {
        format!("{place}.as_deref()")
    };
    let as_null = write_as(field, &optional, true);
    match condition(nullable, field.versions) {
        None => as_null,
        // Null in a version without null goes out as the empty value.
        Some(condition) => {
            let filled = write_as(field, &format!("{optional}.unwrap_or_default()"), false);
            format!("if {condition} {{ {as_null} }} else {{ {filled} }}")
        }
    }
}

fn write_as(field: &Field, place: &str, nullable: bool) -> String {
    let prefix = if nullable { "nullable_" } else { "" };
    let borrow = if place.ends_with(')') { "" } else { "&" };
    match &field.kind {
        Kind::Struct(_) if field.is_array => {
            format!("w.{prefix}structures({borrow}{place}, flexible, version);")
        }
        Kind::Struct(_) if nullable && field.tag.is_some() => {
            format!("w.nullable_tagged_structure({place}, version);")
        }
        Kind::Struct(_) => format!("w.{prefix}structure({borrow}{place}, version);"),
        kind if field.is_array => {
            let (pattern, element) = match kind {
                Kind::String | Kind::Bytes | Kind::Records => ("v", write_sized(kind, "", "v")),
                kind => ("&v", write_fixed(kind, "v")),
            };
            format!("w.{prefix}array({borrow}{place}, flexible, |w, {pattern}| {element});")
        }
        Kind::String | Kind::Bytes | Kind::Records => {
            format!("{};", write_sized(&field.kind, prefix, &format!("{borrow}{place}")))
        }
        kind => format!("{};", write_fixed(kind, place)),
    }
}

fn write_sized(kind: &Kind, prefix: &str, place: &str) -> String {
    format!("w.{prefix}{}({place}, flexible)", wire_word(kind))
}

fn write_fixed(kind: &Kind, place: &str) -> String {
    let part = match kind {
        Kind::ErrorCode => ".code()",
        Kind::ProducerId | Kind::ProducerEpoch | Kind::Offset | Kind::LeaderEpoch | Kind::Timestamp => ".0",
        _ => "",
    };
    format!("w.{}({place}{part})", wire_word(kind))
}

// Words

fn write_flexible(out: &mut String, of: &Struct) -> fmt::Result {
    match of.flexible_from {
        Some(from) if from <= of.versions.first => writeln!(out, "        let flexible = true;"),
        Some(from) => writeln!(out, "        let flexible = version >= {from};"),
        None => writeln!(out, "        let flexible = false;"),
    }
}

/// What tells `versions` apart among `all`; nothing where they are the same.
pub(crate) fn condition(versions: Versions, all: Versions) -> Option<String> {
    let Versions { first, last } = versions;
    match (first > all.first, last < all.last) {
        (false, false) => None,
        (true, false) => Some(format!("version >= {first}")),
        (false, true) => Some(format!("version <= {last}")),
        (true, true) if first == last => Some(format!("version == {first}")),
        (true, true) => Some(format!("({first}..={last}).contains(&version)")),
    }
}

/// `ProduceRequest` for the struct `Request` of `Produce`; a part's own name.
pub(crate) fn full_name(file: &File, of: &Struct) -> String {
    match (&of.role, &file.api) {
        (Role::Request | Role::Response, Some(api)) => format!("{}{}", api.name, of.name),
        (Role::Record(_), _) => format!("{} {}", file.module, of.name),
        _ => of.name.clone(),
    }
}

/// A field's name as Rust wants it.
pub(crate) fn identifier(name: &str) -> String {
    let is_keyword =
        matches!(name, "type" | "match" | "ref" | "move" | "use" | "where" | "final" | "abstract");
    if is_keyword { format!("r#{name}") } else { name.into() }
}

fn rust_type(field: &Field) -> String {
    let element = rust_name(&field.kind);
    let whole = if field.is_array { format!("Vec<{element}>") } else { element };
    if field.nullable.is_some() { format!("Option<{whole}>") } else { whole }
}

pub(crate) fn rust_name(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "bool",
        Kind::Int8 => "i8",
        Kind::Int16 => "i16",
        Kind::Uint16 => "u16",
        Kind::Int32 => "i32",
        Kind::Int64 => "i64",
        Kind::Float64 => "f64",
        Kind::Uuid => "crate::Uuid",
        Kind::ErrorCode => "crate::ErrorCode",
        Kind::ProducerId => "crate::ProducerId",
        Kind::ProducerEpoch => "crate::ProducerEpoch",
        Kind::Offset => "crate::Offset",
        Kind::LeaderEpoch => "crate::LeaderEpoch",
        Kind::Timestamp => "crate::Timestamp",
        Kind::String => "crate::Str",
        Kind::Bytes => "bytes::Bytes",
        Kind::Records => "crate::Records",
        Kind::Struct(name) => name,
    }
    .into()
}

/// The name of the `Reader` and `Writer` method.
fn wire_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int8 => "int8",
        Kind::Int16 | Kind::ErrorCode | Kind::ProducerEpoch => "int16",
        Kind::Uint16 => "uint16",
        Kind::Int32 | Kind::LeaderEpoch => "int32",
        Kind::Int64 | Kind::ProducerId | Kind::Offset | Kind::Timestamp => "int64",
        Kind::Float64 => "float64",
        Kind::Uuid => "uuid",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Records => "records",
        Kind::Struct(_) => "structure",
    }
}

/// The value of a field that a version lacks.
fn default_value(field: &Field) -> String {
    let plain = match (field.default, &field.kind) {
        (Some(Literal::Null), _) => return "None".into(),
        (Some(Literal::True), _) => "true".into(),
        (Some(Literal::Number(number)), kind) => number_value(kind, number),
        (None, _) if field.is_array => "Vec::new()".into(),
        (None, kind) if kind.number_range().is_some() => number_value(kind, 0),
        (None, Kind::Bool) => "false".into(),
        (None, Kind::Float64) => "0.0".into(),
        (None, kind) => format!("{}::default()", rust_name(kind)),
    };
    if field.nullable.is_some() { format!("Some({plain})") } else { plain }
}

fn number_value(kind: &Kind, number: i64) -> String {
    match kind {
        Kind::Int8 | Kind::Int16 | Kind::Uint16 | Kind::Int32 | Kind::Int64 => number.to_string(),
        newtype => format!("{}({number})", rust_name(newtype)),
    }
}

/// Whether `#[derive(Default)]` would make the same of it.
fn is_default_natural(field: &Field) -> bool {
    match (field.default, &field.kind) {
        (Some(Literal::Null), _) => true,
        _ if field.nullable.is_some() => false,
        _ if field.is_array => true,
        (default, Kind::ProducerId | Kind::ProducerEpoch | Kind::LeaderEpoch) => {
            default == Some(Literal::Number(-1))
        }
        (default, _) => default.is_none(),
    }
}
