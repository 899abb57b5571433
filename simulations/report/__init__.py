"""What a run found, for people: a table for the terminal, JSON, and one HTML page.

All three read the dict that `run_demo` and `run_simulation` give, and show what is there:

- ``data``: the counts of `DataQuality`, and ``name`` and ``source`` where known.
- ``settings``: names to plain values.
- ``engine``: ``name``, and ``why`` where that was a choice.
- ``left_out``: arm to why it could not be had. ``evaluated``: asked were ``people`` ``of`` all.
- ``segments``: ``groups``, a list of ``{"name", "from", "to", "people", "asked"}`` (different
  items); ``metrics[arm][group][metric]`` as below, of ``discover``.
- ``convergence``: ``what`` is measured, on how many ``people``; ``arms[arm]``: a list of
  ``{"round", "hr@10", "ndcg@10"}``. ``tasks[arm]``: a list of ``{"task", "round", "invited",
  "accepted", "rejected"}``. Both are of the first seed.
- ``metrics[arm][protocol][metric]``: ``{"mean", "std", "seeds"}``.
- ``privacy``: ``adjacency``, ``trust`` and ``mechanism`` (a sentence each); ``population``:
  ``{"assumed", "real"}``, and ``synthetic`` where nobody is real; ``releases``: a list of
  ``{"arm", "epsilon", "delta", "budget", "assumed"}`` where ``epsilon`` is what was spent;
  ``real``: what the real number of devices would get, in a sentence.
- ``consent``: ``granted``, ``refused``, ``withdrawn`` (of the granted), ``accepted``,
  ``rejected``: ``{reason: n}``.
- ``rollout``: ``version``, ``updated`` devices, ``seconds_median``, and of ``asked`` persons the
  ``hits`` of the devices' own lists and how many were ``same_lists`` as the arm's score gives.
- ``superlink``: instead of a comparison, how one round over a SuperLink went: ``devices``,
  ``counted_as_expected`` and ``sum_equals_honest_sum``.
- ``seconds``: a number, or stage to number.
- ``example`` (not in the JSON: it is one person's list): ``before`` and ``after``, lists of
  ``{"name", "category", "reason", "taken"}``, where ``taken`` marks what the person took next;
  ``history``, names of what the device knew.
"""
