//! `suite!` and the one list of cases that everything derives from.

/// Emits one `#[test]` per case of the suite, in one module per group.
///
/// ```ignore
/// tickr_conformance::suite!(MyHarness);
/// tickr_conformance::suite!(MyHarness, without: [
///     tx = "a plain file has no transactions",
///     notify::other_handles_are_woken = "no LISTEN here",
/// ]);
/// ```
///
/// What is left out, a group or a single case, becomes `#[ignore = "reason"]`; the case
/// `capabilities::are_the_declared_ones` checks that it is just what the storage's
/// [`Capabilities`](tickr_core::Capabilities) say that it cannot do. Use it once in a module.
#[macro_export]
macro_rules! suite {
    ($harness:ty $(,)?) => {
        $crate::suite!($harness, without: []);
    };
    ($harness:ty, without: [$($group:ident $(:: $case:ident)? = $reason:literal),* $(,)?] $(,)?) => {
        type __TickrHarness = $harness;
        const __TICKR_WITHOUT: &[(&str, &str)] =
            &[$((concat!(stringify!($group) $(, "::", stringify!($case))?), $reason)),*];
        $crate::__define_case! { ($) [$($group $(:: $case)? = $reason,)*] {} }
        $crate::__for_each_case! { $crate::__emit_tests }
    };
}

/// Makes the macro `__tickr_case!`, whose arms match what is left out first.
#[doc(hidden)]
#[macro_export]
macro_rules! __define_case {
    (($d:tt) [$group:ident :: $case:ident = $reason:literal, $($rest:tt)*] {$($arms:tt)*}) => {
        $crate::__define_case! { ($d) [$($rest)*] {
            $($arms)*
            ($group $case) => { $crate::__test! { $group $case #[ignore = $reason] } };
        } }
    };
    (($d:tt) [$group:ident = $reason:literal, $($rest:tt)*] {$($arms:tt)*}) => {
        $crate::__define_case! { ($d) [$($rest)*] {
            $($arms)*
            ($group $d case:ident) => { $crate::__test! { $group $d case #[ignore = $reason] } };
        } }
    };
    (($d:tt) [] {$($arms:tt)*}) => {
        macro_rules! __tickr_case {
            $($arms)*
            ($d group:ident $d case:ident) => { $crate::__test! { $d group $d case } };
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __emit_tests {
    ($($group:ident { $($case:ident)* })*) => {
        $(mod $group {
            $(__tickr_case! { $group $case })*
        })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __test {
    ($group:ident $case:ident $(#[$ignore:meta])?) => {
        #[test]
        $(#[$ignore])?
        fn $case() {
            $crate::run::<super::__TickrHarness>(&$crate::Case {
                group: stringify!($group),
                name: stringify!($case),
                without: super::__TICKR_WITHOUT,
                body: |world| ::std::boxed::Box::pin($crate::__cases::$group::$case(world)),
            });
        }
    };
}

/// Calls `$callback! { group { case case } group { case } }` with every case of the suite: the one list of them.
#[doc(hidden)]
#[macro_export]
macro_rules! __for_each_case {
    ($($callback:tt)*) => {
        $($callback)* ! {
            capabilities {
                are_the_declared_ones
                notifier_is_there_when_declared
                transactions_run_when_declared
                name_is_a_label
                time_precision_is_kept
            }
            version {
                report
            }
            enqueue {
                stored_message_is_created
                every_field_round_trips
                every_field_reaches_the_worker
                empty_payload_round_trips
                absent_fields_stay_absent
                same_id_again_changes_nothing
                same_id_again_later_does_not_run_twice
                equal_ids_in_one_batch_are_refused
                order_is_kept
                batches_are_in_order
                empty_batch_is_fine
                answers_are_parallel_to_the_batch
                large_batch_is_stored
                repeated_after_lost_answer_is_stored_once
                values_at_the_limits_round_trip
            }
            tx {
                commit_keeps
                rollback_discards
                abandoned_transaction_discards
                message_and_business_row_share_their_fate
                savepoint_rollback_discards
                savepoint_release_keeps
                rollback_discards_released_savepoint
                key_of_discarded_savepoint_is_free
                duplicate_leaves_transaction_usable
                duplicate_of_own_transaction_is_seen
                same_id_again_in_transaction_changes_nothing
                refused_batch_is_named
                open_transaction_is_invisible
                transaction_sees_its_own_messages
                delayed_message_is_scheduled
                duplicate_waits_for_open_first
                duplicate_after_first_rolled_back_inserts
                refusal_says_retry_transaction
                late_commit_found_within_rung
                order_of_calls_is_kept
            }
            dedupe {
                duplicate_is_a_value_naming_the_first
                duplicates_in_one_batch_share_id
                first_of_the_batch_wins
                key_belongs_to_its_type
                no_key_is_no_duplicate
                own_key_again_is_stored
                keys_are_compared_by_bytes
                duplicate_of_finished_message_is_seen
                key_outlives_the_body
                expired_key_is_free_after_purge
                dedupe_outlives_scheduled_message
                key_of_live_message_is_kept
                duplicate_does_not_stop_its_batch
            }
            claim {
                attempt_is_counted
                attempts_go_up
                empty_claim_writes_nothing
                groups_are_walked_in_order
                oldest_comes_first
                leased_message_is_not_claimed_again
                answer_has_token_and_members
                unknown_type_stays_queued
                types_are_compared_by_bytes
                own_maximum_goes_before_the_groups
                attempt_above_lowered_max_is_visible
                last_error_comes_with_later_attempts
                claim_of_nothing_is_empty
                seq_never_reused_after_drain
                returned_rows_are_found_behind_floor
                large_claim_is_one_claim
                token_is_used_once
            }
            lanes {
                only_asked_lanes_are_looked_into
                priorities_are_lanes
                released_messages_have_a_lane
                ordinary_claim_takes_no_suspect
                suspect_lane_is_refused_unless_solo
                lanes_are_walked_in_the_order_asked
                types_do_not_share_lanes
            }
            limits {
                cap_holds_over_lanes
                total_holds_over_groups
                type_at_its_cap_does_not_stop_others
                groups_of_one_type_have_own_limits
                cap_is_filled_lane_by_lane
            }
            priority {
                high_before_normal_before_low
                priority_is_strict
                failed_message_keeps_its_priority
                delayed_retry_keeps_its_priority
                snoozed_message_keeps_its_priority
                requeued_message_keeps_its_priority
                delayed_message_keeps_its_priority
                low_end_can_be_claimed_first
            }
            schedule {
                delayed_message_waits
                due_message_is_claimed
                moment_is_kept
                past_moment_is_now
                sub_second_delay_is_kept
                client_clock_years_off
                promote_moves_due_in_order
                promote_reports_next_due
                promote_keeps_to_its_limit
                earlier_message_scheduled_later_is_promoted
                retry_waits_for_its_delay
                reschedule_moves_both_ways
                run_now_keeps_the_attempt
                reschedule_changes_the_moment
                reschedule_reports_what_does_not_wait
                reschedule_by_filter_takes_the_scheduled
                batch_mixes_now_and_later
                far_future_is_kept
            }
            lease {
                registered_worker_is_listed
                workers_are_listed_oldest_first
                sub_second_lease_works
                register_again_extends
                condemned_worker_cannot_register_again
                claim_by_removed_worker_takes_nothing
                claim_by_unknown_worker_takes_nothing
                claim_by_expired_worker_takes_nothing
                claim_by_condemned_worker_takes_nothing
                worker_with_open_claim_cannot_be_removed
                claim_with_lost_answer_is_recovered_by_heartbeat
                late_commit_of_abandoned_claim_is_released
                late_claim_of_retired_worker_takes_nothing
                outage_longer_than_lease_makes_no_dead
                too_short_lease_is_refused
            }
            fence {
                zombie_changes_nothing
                result_of_the_holder_stands
                released_attempt_number_is_no_lease
                token_of_an_earlier_life_changes_nothing
                equal_names_are_two_workers
                unknown_token_is_lost
                mask_of_another_length_is_refused
                lease_moves_whole
            }
            settle {
                ok_is_success
                skipped_is_success_with_a_reason
                failed_is_retried_after_its_delay
                failed_without_delay_is_ready
                sub_second_retry_delay_is_kept
                exhausted_is_dead
                dead_is_dead
                every_outcome_in_one_batch
                part_leaves_the_rest_leased
                last_part_closes_the_claim
                repeated_before_close_is_already
                repeat_after_close_is_not_lost
                repeated_after_lost_answer_is_applied
                repeated_after_refusal_is_applied
                first_outcome_stands
                repeat_with_news_is_split
                after_reclaim_reports_lost
                by_expired_unreclaimed_worker_succeeds
                by_condemned_unreclaimed_worker_succeeds
                final_part_with_killed_member_closes_claim
                several_claims_in_one_batch
                one_claim_twice_in_one_batch
                empty_settlement_does_nothing
                every_bit_of_a_large_claim_counts
                returning_members_keep_their_order
                waits_then_reclaim_sees_new_bits
                part_races_reclaim_no_member_twice
                attempts_of_many_failures_add_up
            }
            heartbeat {
                extends_the_lease
                condemned_worker_learns_of_it
                unknown_worker_learns_of_it
                expired_worker_recovers_unless_condemned
                answers_with_open_claims
                closed_claims_are_not_answered
                killed_claim_is_missing_from_the_answer
                idle_is_stored
                takes_the_lease_it_names
                tells_of_suspects_of_its_types
            }
            adoption {
                answers_the_claim_again
                leaves_out_settled_and_revoked
                adopted_members_can_be_settled
                closed_claim_is_none
                unknown_token_is_none
                reclaimed_claim_is_none
                solo_claim_stays_solo
                works_through_another_handle
            }
            reclaim {
                messages_of_dead_worker_come_back
                live_worker_is_left_alone
                condemns_only_when_asked
                limit_counts_claims
                settled_members_stay_settled
                uses_handler_max_of_claimer
                own_maximum_decides
                again_is_a_no_op
                idle_worker_is_removed
                every_page_makes_progress
                message_runs_again_and_succeeds
                expiry_is_a_moment_of_the_database
            }
            suspects {
                shared_crash_makes_suspects
                suspects_are_claimed_one_by_one
                solo_crash_keeps_the_attempt
                solo_crash_at_the_maximum_is_dead
                poison_with_63_neighbours_dies_alone
                neighbour_at_last_attempt_survives_shared_crash
                shared_crashes_never_kill
                released_suspect_stays_one
                retired_suspect_stays_one
                failed_suspect_is_cleared
                snoozed_suspect_is_cleared
                requeued_suspect_is_cleared
                rescheduled_suspect_stays_one
                paused_suspect_waits
                suspect_is_not_claimed_twice
            }
            release {
                runs_before_backlog
                attempt_is_given_back
                retry_given_back_keeps_earlier_attempts
                retire_releases_everything
                retire_says_why
                retire_of_unknown_worker_is_fine
                condemned_worker_may_retire
                retire_leaves_other_workers_alone
            }
            snooze {
                attempt_is_given_back
                waits_for_its_delay
                retry_keeps_earlier_attempts
                never_exhausts
                is_in_the_history
            }
            kill {
                ready_message_dies
                scheduled_message_dies
                claimed_message_is_lost_to_its_worker
                killing_every_member_closes_the_claim
                killing_the_rest_closes_the_claim
                unknown_ids_are_reported
                finished_messages_are_reported
                reason_is_kept
                id_named_twice_is_killed_once
                one_kill_reaches_every_place
                filter_kills_the_oldest_of_a_type
                filter_by_tenant
                killed_retry_keeps_its_attempts
                while_claimed_between_looks
            }
            requeue {
                dead_runs_again_from_attempt_zero
                dead_has_body
                unknown_ids_are_reported
                live_messages_are_reported
                again_is_reported
                for_later_is_scheduled
                filter_takes_the_oldest_of_a_type
                filter_by_tenant
                filter_of_all_takes_all
                killed_message_comes_back
                leaves_the_dead
            }
            pause {
                paused_type_is_not_claimed
                leaves_leased
                resume_allows_claims
                again_says_so
                paused_types_are_listed_by_name
                pause_holds_for_other_handles
                failed_message_of_paused_type_waits
            }
            history {
                success_reads_created_handling_success
                failures_read_failed_and_what_follows
                dead_letter_reads_dead
                rare_outcomes_are_told_by_name
                crashes_name_the_worker
                steps_are_a_chain
                neighbours_do_not_mix
                unknown_message_has_none
                repeats_are_told_once
                refused_settles_are_not_told
                times_are_the_databases
            }
            status {
                unknown_message_is_none
                leased_message_names_its_worker
                waiting_message_names_no_worker
                newest_error_is_told
                finished_messages_have_a_time
                given_back_first_attempt_is_created
                during_move_is_never_success
                neighbours_keep_their_status
            }
            list {
                newest_first
                pages_by_cursor
                full_last_page_has_no_cursor
                by_status
                failed_matches_nothing
                by_type_and_tenant
                since_a_moment
                rare_matches_are_found_across_pages
                dead_letters
                successes_are_listed
                huge_limit_is_the_largest_page
            }
            stats {
                counts_by_type_and_status
                types_are_listed_by_name
                counts_are_capped
                successes_are_no_depth
                unserved_types_are_reported
                expired_worker_serves_nothing
                oldest_ready_has_an_age
                only_ready_messages_have_an_age
                paused_types_are_listed
                suspects_are_counted
                moment_is_the_databases
                empty_queue_has_none
            }
            retention {
                body_needs_proof
                success_retention_counts_from_success
                dead_outlive_success_retention
                dead_goes_with_its_body
                dead_can_be_kept_for_ever
                requeued_message_is_kept
                history_outlives_the_body
                journal_purge_never_touches_open_claims
                proof_is_kept_until_its_body_is_gone
                purge_keeps_to_its_limit
                purge_of_nothing
                history_shorter_than_success_is_refused
                last_error_of_live_message_is_kept
                discard_deletes_dead_and_body
                discard_reports_what_is_not_dead
                discard_by_filter
                purged_id_begins_anew
            }
            locks {
                free_lock_is_taken
                held_lock_is_refused
                own_lock_is_taken_again
                expired_lock_changes_hands_with_a_new_term
                own_expired_lock_has_a_new_term
                renewal_extends
                renewal_is_scoped_to_the_term
                expired_lock_cannot_be_renewed
                released_lock_is_free
                release_is_scoped_to_the_term
                release_twice_says_so
                names_are_independent
                ten_contenders_one_winner
                lock_without_time_is_refused
            }
            notify {
                enqueue_wakes_in_process
                enqueue_wakes_its_type_only
                delayed_enqueue_wakes_nobody
                duplicate_wakes_nobody
                enqueue_in_starts_a_burst
                promote_wakes
                requeue_wakes
                run_now_wakes
                handles_of_one_process_share_the_hub
                other_handles_are_woken
            }
            migrate {
                missing_schema_is_named
                operations_without_schema_say_so
                brings_the_schema_up
                ten_at_once
                again_is_a_no_op
                keeps_data
                migrations_can_be_printed
            }
            input {
                messages_beyond_the_limits_are_never_made
                text_is_never_a_statement
                any_error_text_can_be_recorded
                any_reason_can_be_recorded
                absurd_delays_lose_nothing
                tiny_delays_lose_nothing
                absurd_leases_are_long
                absurd_retentions_delete_nothing
                empty_selections_do_nothing
                many_ids_are_one_operation
                foreign_members_are_refused
                member_settled_twice_in_one_batch_is_refused
                lane_named_twice_is_refused
                limits_of_zero_move_nothing
                huge_limits_are_limits
                errors_do_not_show_payloads
                every_outcome_is_recorded_by_its_word
            }
            concurrency {
                sixteen_claimers_share_without_overlap
                fifty_types_are_drained
                concurrent_settles_of_one_token_disjoint
                concurrent_equal_settles_apply_once
                settle_racing_reclaim_splits_members
                settle_racing_kill_splits_members
                reclaimers_take_each_claim_once
                promoters_move_each_message_once
                one_of_many_wins_a_key
                producers_and_workers_lose_nothing
                one_requeue_of_many_counts
            }
            audit {
                queue_in_use_is_clean
                empty_queue_is_clean
                lost_row_is_reported
                lost_row_is_no_success
                missing_body_is_reported
                missing_body_is_claimed_and_buried
                missing_body_dies_with_its_worker
                missing_body_stops_nobody
            }
            promise {
                committed_messages_survive_reopen
                duplicate_is_a_value_not_an_error
                every_message_is_delivered_at_least_once
                one_lease_and_one_result
                attempts_count_what_was_tried
                poison_dies_alone
                nothing_is_lost_silently
                database_clock_decides
                no_session_state_is_needed
            }
            random {
                mask_invariant
            }
        }
    };
}
