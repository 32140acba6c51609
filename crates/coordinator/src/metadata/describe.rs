//! DescribeConfigs and ListConfigResources: every key with its value, and who set it.

use oncelog_wire::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
    Request, Response,
};
use oncelog_wire::list_config_resources::{self, ConfigResource};
use oncelog_wire::{ErrorCode, Str};

use super::config::{
    BROKER_KEYS, CLIENT_METRICS_KEYS, Change, ConfigSource, DefaultValue, GROUP_KEYS, Key, Overrides,
    TOPIC_KEYS,
};
use super::topics::check_name;
use super::{Cluster, Refusal, ResourceType};

/// The type of a config that no table declares (`DescribeConfigsResponse.ConfigType.UNKNOWN`).
const UNKNOWN_KIND: i8 = 0;

impl Cluster {
    /// Describes configs, with what is set nowhere at its default.
    pub fn describe_configs(&self, request: &Request) -> Response {
        let has_unknown_type =
            request.resources.iter().any(|resource| ResourceType::from_id(resource.resource_type).is_none());
        let results = request.resources.iter().map(|resource| {
            let described = match has_unknown_type {
                true => Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    "the request has a resource of an unknown type",
                )),
                false => self.entries(resource),
            };
            let mut result = DescribeConfigsResult {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                ..DescribeConfigsResult::default()
            };
            match described {
                Ok(entries) => result.configs = entries,
                Err(refusal) => {
                    result.error_code = refusal.code;
                    result.error_message = Some(refusal.message.into());
                }
            }
            if let Some(names) = resource.configuration_keys.as_ref().filter(|names| !names.is_empty()) {
                result.configs.retain(|entry| names.contains(&entry.name));
            }
            for entry in &mut result.configs {
                if !request.include_synonyms {
                    entry.synonyms.clear();
                }
                if !request.include_documentation {
                    entry.documentation = None;
                }
            }
            result
        });
        Response { results: results.collect(), ..Response::default() }
    }

    /// The resources that have, or could have, configs.
    pub fn list_config_resources(
        &self,
        request: &list_config_resources::Request,
        api_version: i16,
    ) -> list_config_resources::Response {
        let mut response = list_config_resources::Response::default();
        let all: Vec<i8> = ResourceType::ALL.into_iter().map(|resource_type| resource_type as i8).collect();
        let types = match (api_version, request.resource_types.as_slice()) {
            (0, _) => &[ResourceType::ClientMetrics as i8][..],
            (_, []) => &all,
            (_, types) => types,
        };
        if types.iter().any(|&id| ResourceType::from_id(id).is_none()) {
            response.error_code = ErrorCode::UnsupportedVersion;
            return response;
        }
        for resource_type in
            ResourceType::ALL.into_iter().filter(|&resource_type| types.contains(&(resource_type as i8)))
        {
            let names: Vec<Str> = match resource_type {
                ResourceType::Topic => self.topics.keys().cloned().collect(),
                ResourceType::Broker | ResourceType::BrokerLogger => {
                    vec![self.identity.node_id.to_string().into()]
                }
                ResourceType::ClientMetrics | ResourceType::Group => {
                    let configured = self.configs.keys().filter(|(of, _)| *of == resource_type);
                    configured.map(|(_, name)| name.clone()).collect()
                }
            };
            response.config_resources.extend(
                names.into_iter().map(|resource_name| ConfigResource {
                    resource_name,
                    resource_type: resource_type as i8,
                }),
            );
        }
        response
    }

    fn entries(
        &self,
        resource: &DescribeConfigsResource,
    ) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
        let name = resource.resource_name.as_str();
        let resource_type =
            ResourceType::from_id(resource.resource_type).expect("the caller has checked the type");
        Ok(match resource_type {
            ResourceType::Topic => {
                check_name(name)?;
                if self.topic(name).is_none() {
                    let message = format!("there is no topic {name}");
                    return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
                }
                self.topic_entries(self.overrides(ResourceType::Topic, name))
            }
            ResourceType::Broker if name.is_empty() => self.cluster_entries(),
            ResourceType::Broker => {
                self.check_broker(name)?;
                self.broker_entries()
            }
            ResourceType::BrokerLogger => {
                self.check_broker(name)?;
                Vec::new()
            }
            ResourceType::Group | ResourceType::ClientMetrics => {
                if name.is_empty() {
                    return Err(Refusal::new(ErrorCode::InvalidRequest, "the resource has no name"));
                }
                self.keyed_entries(resource_type, self.overrides(resource_type, name))
            }
        })
    }

    /// All configs of a topic with these overrides.
    pub(super) fn topic_entries(&self, overrides: &Overrides) -> Vec<DescribeConfigsResourceResult> {
        self.keyed_entries(ResourceType::Topic, overrides)
    }

    /// All configs of a topic, a group or a client-metrics subscription.
    fn keyed_entries(
        &self,
        resource_type: ResourceType,
        overrides: &Overrides,
    ) -> Vec<DescribeConfigsResourceResult> {
        let (keys, own_source) = match resource_type {
            ResourceType::Group => (&GROUP_KEYS, ConfigSource::Group),
            ResourceType::ClientMetrics => (&CLIENT_METRICS_KEYS, ConfigSource::ClientMetrics),
            _ => (&TOPIC_KEYS, ConfigSource::Topic),
        };
        let shown = keys.iter().filter(|key| !key.is_hidden || overrides.contains_key(key.name));
        let entry = |key: &Key| {
            let own = overrides.get(key.name).map(|value| synonym(Some(key), key.name, value, own_source));
            let mut synonyms = Vec::from_iter(own);
            match &key.default {
                DefaultValue::FromBroker(sources) => {
                    let names: Vec<&str> = sources.iter().map(|(name, _)| *name).collect();
                    synonyms.extend(self.broker_synonyms(names[0], &names));
                }
                DefaultValue::Text(text) if resource_type == ResourceType::Group => {
                    synonyms.push(synonym(Some(key), key.name, text, ConfigSource::Default));
                }
                _ => {}
            }
            entry(Some(key), key.name, self.layers().value(key, overrides), synonyms)
        };
        shown.map(entry).collect()
    }

    /// All configs of this broker: all keys, and whatever else was set.
    fn broker_entries(&self) -> Vec<DescribeConfigsResourceResult> {
        let layers = self.layers();
        let is_set = |name: &str| layers.say(&[name]).any(|(_, _, source)| source != ConfigSource::Default);
        let declared =
            BROKER_KEYS.iter().filter(|key| !key.is_hidden || is_set(key.name)).map(|key| key.name);
        let mut names: Vec<&str> = declared.collect();
        let others = layers.broker.keys().chain(layers.cluster.keys()).map(String::as_str);
        names.extend(others.filter(|name| BROKER_KEYS.get(name).is_none()));
        names.sort_unstable();
        names.dedup();
        let describe = |name: &str| {
            let together = names_for_one_setting(name);
            let alone = [name];
            let synonyms = self.broker_synonyms(name, together.as_deref().unwrap_or(&alone));
            entry(BROKER_KEYS.get(name), name, layers.broker(name).map(str::to_owned), synonyms)
        };
        names.into_iter().map(describe).collect()
    }

    /// What clients have set for all brokers.
    fn cluster_entries(&self) -> Vec<DescribeConfigsResourceResult> {
        let overrides = self.layers().cluster;
        let describe = |(name, value): (&String, &String)| {
            let key = BROKER_KEYS.get(name);
            let synonyms = vec![synonym(key, name, value, ConfigSource::DynamicDefaultBroker)];
            entry(key, name, Some(value.clone()), synonyms)
        };
        overrides.iter().map(describe).collect()
    }

    /// Who says what of the broker keys `names`, from the first mention of `name` itself on, as Kafka lists it.
    fn broker_synonyms(&self, name: &str, names: &[&str]) -> Vec<DescribeConfigsSynonym> {
        let said = self.layers().say(names).skip_while(|(said_of, _, _)| *said_of != name);
        said.map(|(name, value, source)| synonym(BROKER_KEYS.get(name), name, value, source)).collect()
    }
}

/// Where several broker keys, in different units, are one setting: all of them, strongest first.
fn names_for_one_setting(name: &str) -> Option<Vec<&'static str>> {
    TOPIC_KEYS.iter().find_map(|key| match &key.default {
        DefaultValue::FromBroker(sources) if sources.len() > 1 => {
            let names: Vec<&str> = sources.iter().map(|(name, _)| *name).collect();
            names.contains(&name).then_some(names)
        }
        _ => None,
    })
}

/// A value as clients may see it: not if it is secret, or might be.
fn visible(key: Option<&Key>, value: String) -> Option<Str> {
    key.is_some_and(|key| !key.is_sensitive()).then(|| value.into())
}

fn synonym(key: Option<&Key>, name: &str, value: &str, source: ConfigSource) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.into(), value: visible(key, value.to_owned()), source: source as i8 }
}

fn entry(
    key: Option<&Key>,
    name: &str,
    value: Option<String>,
    synonyms: Vec<DescribeConfigsSynonym>,
) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: name.into(),
        value: value.and_then(|value| visible(key, value)),
        read_only: key.is_none_or(|key| key.change == Change::ReadOnly),
        config_source: synonyms.first().map_or(ConfigSource::Default as i8, |strongest| strongest.source),
        is_sensitive: key.is_none_or(Key::is_sensitive),
        synonyms,
        config_type: key.map_or(UNKNOWN_KIND, |key| key.kind.id()),
        documentation: Some(key.map_or("", |key| key.doc).into()),
    }
}
