"""Chaos with real processes: the harness, and which test holds which of its 24 scenarios.

    desk         the platform, the local Kite Connect with a ledger of its own, the line between; what must always hold
    proxy        that line: latency, cut, half-open, reset, an answer lost
    hooks        exact places to die at, and short patience, for child processes that run unmodified code
    load         the nemesis
    strategies   what trades meanwhile

``zerodha`` is ``tests/test_zerodha.py``, ``faults`` is ``tests/test_faults.py``, the others ``tests/test_chaos.py``.

    C01  state server killed          nothing_leaves_without_the_state_server[killed]; zerodha: killed_while[server]
    C02  down for seconds             the same; faults: a_server_of_ones_own_is_down_for_five_seconds
    C03  state server stopped         nothing_leaves_without_the_state_server[stopped]
    C04  FLUSHALL                     what_the_server_forgets_is_made_again; faults: the_server_loses_everything
    C05  maxmemory                    nothing_leaves_without_the_state_server[full]
    C06  gateway killed at 9 places   a_gateway_that_dies_there, one_that_dies_over_a_cancel
    C07  gateway stopped, a second    a_second_gateway_is_refused, a_gateway_that_hangs; test_order_parts
    C08  runner killed                zerodha: killed_while[runner]; faults: killed_five_times[runner]
    C09  kernel killed, interrupted   faults: kernels_die, a_run_ends_soon_after_its_kernel; test_notebook_client
    C10  two kernels, one strategy    faults: one_strategy_runs_once
    C11  cell run again               faults: kernels_die_and_cells_are_run_again, one_strategy_runs_once
    C12  answer dropped after accept  an_answer_lost_on_the_way; test_order_wire: place, cancel and modify
    C13  line cut, half-open, slow    a_bad_line_ends_no_process_and_doubles_no_order
    C14  prices                       prices_that_fail_are_noticed; test_kite_process
    C15  token killed                 a_dead_token_is_one_alarm_and_a_login_mends_it
    C16  disk full, logs              faults: a_full_disk_for_logs_stops_no_trade
    C17  disk full, journals          no_order_leaves_while_the_journal_cannot_be_written; faults
    C18  journal damaged              a_damaged_order_journal_is_refused_and_a_backup_is_taken
    C19  clock wrong                  a_clock_that_is_wrong_halts: the broker's Date header an hour ahead stands for
                                      ours an hour behind, so nothing has to be preloaded into a process
    C20  late, tagless, stale         what_the_book_hides; zerodha: an_answer_that_goes_wrong[place-late]
    C21  order storm                  a_storm_is_stopped_and_its_neighbour_trades; faults: bad_neighbours
    C22  SIGTERM in any order         all_that_is_told_to_end_ends_in_any_order
    C23  kill switch, all else dead   the_kill_switch_with_the_gateway_stopped_and_the_server_dead; zerodha
    C24  nemesis                      a_nemesis_finds_nothing: 15 s, and five seeds of 60 s with `pytest -m soak`
"""
