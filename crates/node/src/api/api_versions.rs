//! ApiVersions: what is served, and in which versions.

use oncelog_wire::api_versions::{ApiVersion, FinalizedFeatureKey, Request, Response, SupportedFeatureKey};
use oncelog_wire::{ApiKey, ErrorCode, Str};

use crate::Node;
use crate::context::Context;
use crate::dispatch::{ApiRange, SERVED};
use crate::reply::Answer;

/// A feature, the levels we know of it, and the level in force. Just what works is here.
struct Feature {
    name: Str,
    min: i16,
    max: i16,
    level: i16,
}

static FEATURES: [Feature; 2] = [
    // The metadata.version of Kafka 4.3 and of the oldest it still reads (3.3).
    Feature { name: Str::from_static("metadata.version"), min: 7, max: 30, level: 30 },
    Feature { name: Str::from_static("transaction.version"), min: 0, max: 2, level: 2 },
];

pub(crate) fn handle(_: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let names = [&request.client_software_name, &request.client_software_version];
    if context.api_version >= 3 && !names.iter().all(|name| is_software_name(name)) {
        return Response { error_code: ErrorCode::InvalidRequest, ..Response::default() }.into();
    }
    // Before version 4, clients take a minimum of 0 for a mistake, so those features are left out (KAFKA-17492).
    let supported = FEATURES.iter().filter(|feature| feature.min > 0 || context.api_version >= 4);
    let finalized = FEATURES.iter().filter(|feature| feature.level > 0);
    Response {
        api_keys: SERVED.iter().map(advertised).collect(),
        supported_features: supported
            .map(|feature| SupportedFeatureKey {
                name: feature.name.clone(),
                min_version: feature.min,
                max_version: feature.max,
            })
            .collect(),
        finalized_features_epoch: 1,
        finalized_features: finalized
            .map(|feature| FinalizedFeatureKey {
                name: feature.name.clone(),
                max_version_level: feature.level,
                min_version_level: feature.level,
            })
            .collect(),
        ..Response::default()
    }
    .into()
}

/// The answer, in version 0, to a version that is not served: which one to use instead.
pub(crate) fn unsupported_version() -> Response {
    let this = SERVED.iter().filter(|api| api.key == ApiKey::ApiVersions);
    Response {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: this.map(advertised).collect(),
        ..Response::default()
    }
}

fn advertised(api: &ApiRange) -> ApiVersion {
    // As Kafka does: librdkafka before 2.x takes compression for unsupported where Produce does not start at 0.
    let min_version = if api.key == ApiKey::Produce { 0 } else { api.min };
    ApiVersion { api_key: api.key.code(), min_version, max_version: api.max }
}

/// Letters, digits, dots and dashes, with a letter or a digit at both ends (KIP-511).
fn is_software_name(name: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    is_end(name.bytes().next())
        && is_end(name.bytes().last())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_told_from_anything_else() {
        for name in ["apache-kafka-java", "4.3.1", "x"] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-x", "x.", "a b", "ä"] {
            assert!(!is_software_name(name), "{name}");
        }
    }
}
