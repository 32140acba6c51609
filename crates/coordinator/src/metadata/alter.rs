//! Configs: what clients may set, and the decisions to set it.

use std::collections::HashSet;

use oncelog_wire::alter_configs::{self, AlterableConfig};
use oncelog_wire::incremental_alter_configs::{self, AlterableConfig as IncrementalConfig};
use oncelog_wire::internal::metadata::ConfigRecord;
use oncelog_wire::{ErrorCode, Str};

use super::config::{BrokerConfig, Change, GROUP_KEYS, Key, Kind, Layers, Overrides, TOPIC_KEYS};
use super::topics::{check_name, once_each};
use super::{Cluster, Effect, Output, Record, Refusal, ResourceType};

/// Broker keys that Kafka changes while it runs and oncelog reads only when it starts.
const READ_AT_START: [&str; 2] = ["listeners", "listener.security.protocol.map"];

/// How a client wants the configs of one resource changed.
#[derive(Clone, Copy)]
enum Edit<'a> {
    /// Some keys, each in its way.
    Incremental(&'a [IncrementalConfig]),
    /// All keys: what is not named is unset.
    Replace(&'a [AlterableConfig]),
}

/// What became of one resource.
struct Altered {
    resource_type: i8,
    name: Str,
    error_code: ErrorCode,
    error_message: Option<Str>,
}

/// A resource whose configs may change.
struct Resource {
    resource_type: ResourceType,
    /// The name it is stored under.
    name: Str,
}

impl Cluster {
    /// Changes single configs; a resource changes as a whole or not at all.
    pub fn incremental_alter_configs(
        &self,
        request: &incremental_alter_configs::Request,
    ) -> Output<incremental_alter_configs::Response> {
        let resources = request.resources.iter();
        let edits =
            resources.map(|it| ((it.resource_type, &it.resource_name), Edit::Incremental(&it.configs)));
        let Output { records, answer, effects } = self.alter(edits.collect(), request.validate_only);
        let responses =
            answer.into_iter().map(|altered| incremental_alter_configs::AlterConfigsResourceResponse {
                error_code: altered.error_code,
                error_message: altered.error_message,
                resource_type: altered.resource_type,
                resource_name: altered.name,
            });
        let answer =
            incremental_alter_configs::Response { responses: responses.collect(), ..Default::default() };
        Output { records, answer, effects }
    }

    /// Replaces all configs of each resource (the older API).
    pub fn alter_configs(&self, request: &alter_configs::Request) -> Output<alter_configs::Response> {
        let resources = request.resources.iter();
        let edits = resources.map(|it| ((it.resource_type, &it.resource_name), Edit::Replace(&it.configs)));
        let Output { records, answer, effects } = self.alter(edits.collect(), request.validate_only);
        let responses = answer.into_iter().map(|altered| alter_configs::AlterConfigsResourceResponse {
            error_code: altered.error_code,
            error_message: altered.error_message,
            resource_type: altered.resource_type,
            resource_name: altered.name,
        });
        let answer = alter_configs::Response { responses: responses.collect(), ..Default::default() };
        Output { records, answer, effects }
    }

    fn alter(&self, edits: Vec<((i8, &Str), Edit<'_>)>, validate_only: bool) -> Output<Vec<Altered>> {
        let mut output = Output { records: Vec::new(), answer: Vec::new(), effects: Vec::new() };
        for (&((resource_type, name), edit), is_repeated) in once_each(&edits, |(resource, _)| resource) {
            let changed = match is_repeated {
                true => Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    "the request names this resource more than once",
                )),
                false => self.change(resource_type, name, edit),
            };
            let (error_code, error_message) = match changed {
                Ok((records, effect)) => {
                    output.records.extend(records);
                    output.effects.extend(effect);
                    (ErrorCode::None, None)
                }
                Err(refusal) => (refusal.code, Some(refusal.message.into())),
            };
            output.answer.push(Altered { resource_type, name: name.clone(), error_code, error_message });
        }
        output.unless(validate_only)
    }

    /// The records that change one resource, and what then follows.
    fn change(
        &self,
        type_id: i8,
        name: &Str,
        edit: Edit<'_>,
    ) -> Result<(Vec<Record>, Option<Effect>), Refusal> {
        check_entries(edit)?;
        let resource = self.resource(type_id, name)?;
        let Resource { resource_type, ref name } = resource;
        let old = self.overrides(resource_type, name);
        let new = match edit {
            Edit::Incremental(configs) => {
                configs.iter().try_fold(old.clone(), |new, config| self.edited(&resource, new, config))?
            }
            Edit::Replace(configs) => {
                let set = |config: &AlterableConfig| {
                    Some((config.name.to_string(), config.value.as_ref()?.to_string()))
                };
                configs.iter().filter_map(set).collect()
            }
        };
        let new = self.check_overrides(resource_type, name, new)?;
        if resource_type == ResourceType::Topic && self.topic(name).is_none() {
            return Err(Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic {name}"),
            ));
        }
        let record = |key: &str, value: Option<&String>| {
            Record::from(ConfigRecord {
                resource_type: resource_type as i8,
                resource_name: name.detached(),
                name: key.into(),
                value: value.map(|value| value.as_str().into()),
            })
        };
        let set = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
        let unset = old.keys().filter(|key| !new.contains_key(*key));
        let set = set.map(|(key, value)| record(key, Some(value)));
        let records: Vec<Record> = set.chain(unset.map(|key| record(key, None))).collect();
        let effect = match resource_type {
            _ if records.is_empty() => None,
            ResourceType::Topic => Some(Effect::TopicConfigChanged { name: name.detached() }),
            ResourceType::Broker => Some(Effect::BrokerConfigChanged),
            ResourceType::Group => Some(Effect::GroupConfigChanged { name: name.detached() }),
            ResourceType::ClientMetrics | ResourceType::BrokerLogger => None,
        };
        Ok((records, effect))
    }

    /// The resource meant, if there can be such a resource.
    fn resource(&self, type_id: i8, name: &Str) -> Result<Resource, Refusal> {
        let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        let Some(resource_type) = ResourceType::from_id(type_id) else {
            return refuse(format!("there are no resources of type {type_id}"));
        };
        let name = match resource_type {
            ResourceType::Broker if name.is_empty() => name.clone(),
            ResourceType::Broker | ResourceType::BrokerLogger => self.check_broker(name)?,
            _ if name.is_empty() => return refuse("the resource has no name".to_owned()),
            ResourceType::Topic => check_name(name).map(|()| name.clone())?,
            ResourceType::Group | ResourceType::ClientMetrics => name.clone(),
        };
        Ok(Resource { resource_type, name })
    }

    /// The one way to write this broker's id, where that is what `name` says.
    pub(super) fn check_broker(&self, name: &str) -> Result<Str, Refusal> {
        let id = self.identity.node_id;
        if name.parse() != Ok(id) {
            let message = format!("{name:?} is not the id of this broker, which is {id}");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        Ok(id.to_string().into())
    }

    /// The overrides of a resource after one more edit.
    fn edited(
        &self,
        resource: &Resource,
        mut all: Overrides,
        config: &IncrementalConfig,
    ) -> Result<Overrides, Refusal> {
        let name = config.name.as_str();
        let value = config.value.as_deref().unwrap_or_default();
        match config.config_operation {
            0 => all.insert(name.to_owned(), value.to_owned()),
            1 => all.remove(name),
            operation @ (2 | 3) => {
                let key = resource.resource_type.keys().and_then(|keys| keys.get(name));
                let Some(key) = key.filter(|key| key.kind == Kind::List) else {
                    let message =
                        format!("{name} is not a list, nothing can be added to it or taken from it");
                    return Err(Refusal::new(ErrorCode::InvalidConfig, message));
                };
                let current = match resource.resource_type {
                    ResourceType::Broker => {
                        all.get(name).cloned().or_else(|| self.layers().broker(name).map(Into::into))
                    }
                    _ => self.layers().value(key, &all),
                };
                let current = current.unwrap_or_default();
                let mut elements: Vec<&str> =
                    current.split(',').filter(|element| !element.is_empty()).collect();
                for element in value.split(',').map(str::trim) {
                    let place = elements.iter().position(|other| *other == element);
                    match (operation, place) {
                        (2, None) => elements.push(element),
                        (3, Some(place)) => drop(elements.remove(place)),
                        _ => {}
                    }
                }
                all.insert(name.to_owned(), elements.join(","))
            }
            other => {
                let message = format!("there is no operation {other} on configs");
                return Err(Refusal::new(ErrorCode::InvalidRequest, message));
            }
        };
        Ok(all)
    }

    /// Checks all overrides of a resource together, and brings them into canonical spelling.
    pub(super) fn check_overrides(
        &self,
        resource_type: ResourceType,
        resource: &str,
        all: Overrides,
    ) -> Result<Overrides, Refusal> {
        let code = match resource_type {
            ResourceType::Topic | ResourceType::Group | ResourceType::BrokerLogger => {
                ErrorCode::InvalidConfig
            }
            ResourceType::Broker | ResourceType::ClientMetrics => ErrorCode::InvalidRequest,
        };
        let refuse = |message: String| Refusal::new(code, message);
        let mut checked = Overrides::new();
        for (name, value) in all {
            let value = match resource_type.keys().and_then(|keys| keys.get(&name)) {
                Some(key) => {
                    let value = key
                        .read(&value)
                        .map_err(|why| refuse(format!("{name}={}: {why}", shown(key, &value))))?;
                    let is_cluster_wide = resource.is_empty();
                    check_change(key, is_cluster_wide).map_err(|why| refuse(format!("{name} {why}")))?;
                    value
                }
                // Kafka keeps whatever a plug-in might want to know.
                None if resource_type == ResourceType::Broker => value,
                None => return Err(refuse(format!("{name} is not a config key here"))),
            };
            checked.insert(name, value);
        }
        let conflict = match resource_type {
            ResourceType::Topic => self.topic_conflict(&checked),
            ResourceType::Group => self.group_conflict(&checked),
            ResourceType::Broker => self.broker_conflict(resource, &checked),
            ResourceType::ClientMetrics | ResourceType::BrokerLogger => None,
        };
        conflict.map_or(Ok(checked), |message| Err(refuse(message)))
    }

    fn topic_conflict(&self, overrides: &Overrides) -> Option<String> {
        if overrides.get("remote.storage.enable").is_some_and(|value| value == "true") {
            return Some("remote.storage.enable=true: there is no tiered storage".to_owned());
        }
        let lag = |name: &str| {
            TOPIC_KEYS.get(name).and_then(|key| self.layers().value(key, overrides)?.parse::<i64>().ok())
        };
        let (least, most) = (lag("min.compaction.lag.ms")?, lag("max.compaction.lag.ms")?);
        (least > most)
            .then(|| format!("min.compaction.lag.ms={least} is more than max.compaction.lag.ms={most}"))
    }

    /// Where the broker has bounds for a group key, they are `group.<protocol>.min.<rest>` and `group.<protocol>.max.<rest>`.
    fn group_conflict(&self, overrides: &Overrides) -> Option<String> {
        for (name, value) in overrides {
            let (protocol, rest) = name.split_once('.')?;
            let bound = |which: &str| {
                let name = format!("group.{protocol}.{which}.{rest}");
                let value = self.layers().broker(&name)?.parse::<i64>().ok()?;
                Some((name, value))
            };
            let Ok(value) = value.parse::<i64>() else { continue };
            if let Some((bound, least)) = bound("min").filter(|(_, least)| value < *least) {
                return Some(format!("{name}={value}: {bound} is {least}"));
            }
            if let Some((bound, most)) = bound("max").filter(|(_, most)| value > *most) {
                return Some(format!("{name}={value}: {bound} is {most}"));
            }
        }
        let number =
            |name: String| self.layers().value(GROUP_KEYS.get(&name)?, overrides)?.parse::<i64>().ok();
        for protocol in ["consumer", "share", "streams"] {
            let session = number(format!("{protocol}.session.timeout.ms"))?;
            let heartbeat = number(format!("{protocol}.heartbeat.interval.ms"))?;
            if session <= heartbeat {
                return Some(format!(
                    "{protocol}.session.timeout.ms={session} is not more than {protocol}.heartbeat.interval.ms={heartbeat}"
                ));
            }
        }
        None
    }

    fn broker_conflict(&self, resource: &str, overrides: &Overrides) -> Option<String> {
        let mut layers: Layers<'_> = self.layers();
        match resource {
            "" => layers.cluster = overrides,
            _ => layers.broker = overrides,
        }
        BrokerConfig::checked(&layers).err().map(|error| error.to_string())
    }
}

/// No key twice, and a value wherever the edit needs one.
fn check_entries(edit: Edit<'_>) -> Result<(), Refusal> {
    let entries: Vec<(&Str, bool)> = match edit {
        Edit::Incremental(configs) => {
            let lacks_value =
                |config: &IncrementalConfig| config.config_operation != 1 && config.value.is_none();
            configs.iter().map(|config| (&config.name, lacks_value(config))).collect()
        }
        Edit::Replace(configs) => {
            configs.iter().map(|config| (&config.name, config.value.is_none())).collect()
        }
    };
    let mut names = HashSet::new();
    for (name, lacks_value) in entries {
        if !names.insert(name) {
            return Err(Refusal::new(ErrorCode::InvalidRequest, format!("{name} is set more than once")));
        }
        if lacks_value {
            return Err(Refusal::new(ErrorCode::InvalidRequest, format!("{name} has no value")));
        }
    }
    Ok(())
}

/// Whether a client may change this key there.
fn check_change(key: &Key, is_cluster_wide: bool) -> Result<(), &'static str> {
    match key.change {
        Change::ReadOnly => Err("cannot change while the broker runs"),
        Change::PerBroker if READ_AT_START.contains(&key.name) => Err("is read when the broker starts"),
        Change::PerBroker if key.name.starts_with("ssl.") => Err("can change only for one listener"),
        Change::PerBroker if is_cluster_wide => Err("can change only at one broker, not for all"),
        Change::PerBroker | Change::ClusterWide | Change::Dynamic => Ok(()),
    }
}

fn shown<'a>(key: &Key, value: &'a str) -> &'a str {
    if key.is_sensitive() { "[hidden]" } else { value }
}
