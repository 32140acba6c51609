//! Which error a client understands, by the version it speaks.

use oncelog_wire::ErrorCode;

/// `error` as a request of `api_version` is told it: PRODUCER_FENCED came with version `fenced_since` of its API, and
/// clients before that know INVALID_PRODUCER_EPOCH. (InitProducerId 4; AddPartitionsToTxn, AddOffsetsToTxn, EndTxn 2.)
pub fn error_for_version(error: ErrorCode, api_version: i16, fenced_since: i16) -> ErrorCode {
    if error == ErrorCode::ProducerFenced && api_version < fenced_since {
        ErrorCode::InvalidProducerEpoch
    } else {
        error
    }
}

/// What a transactional produce, or commit of offsets, asks of the coordinator before it is appended (KIP-890).
/// Kafka's `TransactionSupportedOperation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionCheck {
    /// The partition must have been added. The client does not know TRANSACTION_ABORTABLE.
    Verify,
    /// The partition must have been added.
    VerifyAbortable,
    /// The partition is added.
    Add,
}

impl PartitionCheck {
    /// By the version of a Produce request.
    pub fn for_produce(api_version: i16) -> PartitionCheck {
        PartitionCheck::by_version(api_version, 11)
    }

    /// By the version of a TxnOffsetCommit request.
    pub fn for_txn_offset_commit(api_version: i16) -> PartitionCheck {
        PartitionCheck::by_version(api_version, 4)
    }

    fn by_version(api_version: i16, abortable: i16) -> PartitionCheck {
        match api_version {
            version if version > abortable => PartitionCheck::Add,
            version if version == abortable => PartitionCheck::VerifyAbortable,
            _ => PartitionCheck::Verify,
        }
    }

    /// The coordinator's refusal as TxnOffsetCommit passes it on.
    pub fn error(self, error: ErrorCode) -> ErrorCode {
        match error {
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            ErrorCode::TransactionAbortable if self == PartitionCheck::Verify => ErrorCode::InvalidTxnState,
            error => error,
        }
    }

    /// The coordinator's refusal as Produce passes it on: what makes a client look for another coordinator would be
    /// of no use to a producer, so those come as NOT_ENOUGH_REPLICAS, to be tried again.
    pub fn produce_error(self, error: ErrorCode) -> ErrorCode {
        match error {
            ErrorCode::NetworkException
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
            ErrorCode::ConcurrentTransactions if self != PartitionCheck::Add => ErrorCode::NotEnoughReplicas,
            error => self.error(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_from_before_producer_fenced_are_told_invalid_producer_epoch() {
        assert_eq!(error_for_version(ErrorCode::ProducerFenced, 3, 4), ErrorCode::InvalidProducerEpoch);
        assert_eq!(error_for_version(ErrorCode::ProducerFenced, 4, 4), ErrorCode::ProducerFenced);
        assert_eq!(error_for_version(ErrorCode::InvalidTxnState, 0, 2), ErrorCode::InvalidTxnState);
    }

    #[test]
    fn producers_are_told_what_their_version_can_act_on() {
        use ErrorCode::*;
        let old = PartitionCheck::for_produce(10);
        let eleven = PartitionCheck::for_produce(11);
        let twelve = PartitionCheck::for_produce(12);
        let told = |error| [old, eleven, twelve].map(|check| check.produce_error(error));
        assert_eq!(told(TransactionAbortable), [InvalidTxnState, TransactionAbortable, TransactionAbortable]);
        assert_eq!(
            told(ConcurrentTransactions),
            [NotEnoughReplicas, NotEnoughReplicas, ConcurrentTransactions]
        );
        assert_eq!(told(ProducerFenced), [InvalidProducerEpoch; 3]);
        assert_eq!(told(NotCoordinator), [NotEnoughReplicas; 3]);
        assert_eq!(told(InvalidProducerIdMapping), [InvalidProducerIdMapping; 3]);
    }

    #[test]
    fn offset_commits_add_their_partition_from_version_5() {
        use ErrorCode::*;
        let checks = [3, 4, 5].map(PartitionCheck::for_txn_offset_commit);
        assert_eq!(checks, [PartitionCheck::Verify, PartitionCheck::VerifyAbortable, PartitionCheck::Add]);
        assert_eq!(checks[0].error(TransactionAbortable), InvalidTxnState);
        assert_eq!(checks[2].error(ConcurrentTransactions), ConcurrentTransactions);
        assert_eq!(checks[2].error(ProducerFenced), InvalidProducerEpoch);
    }
}
