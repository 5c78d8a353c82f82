"""What is worked out when a fit is measured already: standard errors, and relations of higher order.

Of many neurons they take longer than the fit, so that metrics.json is written before them, and once more after.
"""

from nsi import measures, recordings, relations, uncertainty


def read_off(args, networks, train, rec, truth, shape, places, timed, stage):
    """Write connectivity.npz. args: with out and control; networks: whose weights are the answer; train, rec: the
    training trials, and all; truth: recordings.load_truth's; places: (n, D) rad; timed: whether alpha is known; stage:
    called with a name and a count, gives a watch.Stage. Returns: the file's arrays, and the measures that need them.
    """
    n = rec.rates.shape[-1]
    with stage("error bars", n, "neuron") as watch:
        found = uncertainty.read_off(networks, train, shape, timed, watch.seen)
    if not args.control:
        with stage("orders", n, "neuron") as watch:
            found |= relations.read_off(networks[0], train, shape, places, seen=watch.seen)
    recordings.save(args.out / "connectivity.npz", **found)
    each = measures.of_replicas([measures.of_errors(net, rec, shape, truth, found) for net in networks])
    return found, measures.valid_json(each | relations.scores(found, truth, shape, places))
