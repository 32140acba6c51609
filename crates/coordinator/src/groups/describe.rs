//! DescribeGroups and ListGroups.

use oncelog_wire::describe_groups::{DescribedGroup, DescribedGroupMember};
use oncelog_wire::list_groups::ListedGroup;
use oncelog_wire::{ErrorCode, Str};

use super::Coordinator;
use super::group::State;

/// The first version in which a group that does not exist is an error.
const GROUP_ID_NOT_FOUND_FROM: i16 = 6;

/// Kafka's name for groups of the classic protocol.
const CLASSIC: &str = "classic";

impl Coordinator {
    /// Describes one group, as a DescribeGroups of `version` is to be told.
    pub fn describe(&self, group_id: &Str, version: i16) -> DescribedGroup {
        let mut described = DescribedGroup { group_id: group_id.clone(), ..Default::default() };
        let Some(durable) = self.durable.group(group_id) else {
            described.group_state = Str::from_static("Dead");
            if version >= GROUP_ID_NOT_FOUND_FROM {
                described.error_code = ErrorCode::GroupIdNotFound;
                described.error_message = Some(Str::from(format!("Group {group_id} not found.")));
            }
            return described;
        };
        let Some(group) = self.groups.get(group_id) else {
            described.group_state = Str::from_static(State::Empty.name());
            described.protocol_type = durable.protocol_type().cloned().unwrap_or_default();
            return described;
        };
        described.group_state = Str::from_static(group.state.name());
        described.protocol_type = group.protocol_type.clone().unwrap_or_default();
        let protocol = group.protocol.clone().filter(|_| group.state == State::Stable);
        let members = group.members().iter().map(|(member_id, member)| DescribedGroupMember {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            member_metadata: protocol.as_ref().map(|name| member.metadata(name)).unwrap_or_default(),
            member_assignment: member.assignment.clone(),
        });
        described.members = members.collect();
        described.protocol_data = protocol.unwrap_or_default();
        described
    }

    /// The groups whose state and type the filters name; an empty filter names all.
    pub fn list(&self, states_filter: &[Str], types_filter: &[Str]) -> Vec<ListedGroup> {
        let names = |filter: &[Str], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
        };
        if !names(types_filter, CLASSIC) {
            return Vec::new();
        }
        let groups = self.durable.groups().filter_map(|(group_id, durable)| {
            let session = self.groups.get(group_id);
            let state = session.map_or(State::Empty, |group| group.state);
            let protocol_type = match session {
                Some(group) => group.protocol_type.as_ref(),
                None => durable.protocol_type(),
            };
            names(states_filter, state.name()).then(|| ListedGroup {
                group_id: group_id.clone(),
                protocol_type: protocol_type.cloned().unwrap_or_default(),
                group_state: Str::from_static(state.name()),
                group_type: Str::from_static(CLASSIC),
            })
        });
        groups.collect()
    }
}
