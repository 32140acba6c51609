//! From definitions to what `wire`'s tests need: a random value of every struct, and a walk over all messages.
//!
//! The emitted code is included by those tests, which define the traits `Sample` and `Visitor` it uses.

use std::fmt::{self, Write};

use crate::emit::{condition, full_name, identifier};
use crate::model::{Field, File, Protocol, Role, Struct};

/// The Rust of the samples.
pub fn samples(protocol: &Protocol) -> String {
    let mut out = String::new();
    write_samples(&mut out, protocol).expect("writing to a string does not fail");
    out
}

fn write_samples(out: &mut String, protocol: &Protocol) -> fmt::Result {
    for file in &protocol.files {
        for of in &file.structs {
            write_sample(out, file, of)?;
        }
    }
    writeln!(out, "/// Shows the visitor every message with its versions.")?;
    writeln!(out, "pub fn visit_messages(visitor: &mut impl Visitor) {{")?;
    for file in &protocol.files {
        for of in file.structs.iter().filter(|of| of.role != Role::Part) {
            let (path, name) = (path(file, of), full_name(file, of));
            let (first, last) = (of.versions.first, of.versions.last);
            writeln!(out, "    visitor.message::<{path}>({name:?}, {first}..={last});")?;
        }
    }
    writeln!(out, "}}")
}

fn write_sample(out: &mut String, file: &File, of: &Struct) -> fmt::Result {
    let path = path(file, of);
    writeln!(out, "impl Sample for {path} {{")?;
    writeln!(out, "    fn sample(s: &mut Sampler, version: i16) -> Self {{")?;
    writeln!(out, "        let mut m = Self::default();")?;
    for field in &of.fields {
        let mut conditions: Vec<String> = condition(field.versions, of.versions).into_iter().collect();
        if field.tag.is_some() {
            conditions.push("s.coin()".into());
        }
        let assignment = format!("m.{} = {};", identifier(&field.name), value(field));
        match conditions.is_empty() {
            true => writeln!(out, "        {assignment}")?,
            false => writeln!(out, "        if {} {{ {assignment} }}", conditions.join(" && "))?,
        }
    }
    writeln!(out, "        m\n    }}\n}}\n")
}

fn value(field: &Field) -> String {
    let any = "Sample::sample(s, version)";
    match field.nullable {
        Some(nullable) => match condition(nullable, field.versions) {
            Some(condition) => format!("if {condition} {{ {any} }} else {{ Some({any}) }}"),
            None => any.into(),
        },
        None => any.into(),
    }
}

fn path(file: &File, of: &Struct) -> String {
    let internal = if file.internal { "internal::" } else { "" };
    format!("oncelog_wire::{internal}{}::{}", file.module, of.name)
}
