"""--max-data-bytes gives a new cluster its data limit; at it, what grows is refused and all else goes on."""

from kvcluster import Cluster, kv

LIMIT = 1 << 20
VALUE = b"x" * 10000


def limit_of(node):
    return node.client().call(config_get=kv.ConfigGet(name="data-limit")).config_get.entry.value


def fill(client, prefix):
    """Puts until one is refused; the number of puts, and the refusal."""
    for i in range(1000):
        reply = client.put(b"%b%d" % (prefix, i), VALUE)
        if reply.code != kv.OK:
            return i, reply
    raise AssertionError("nothing was refused")


def test_limit_of_a_new_cluster(tmp_path):
    with Cluster(tmp_path, options=[f"--max-data-bytes={LIMIT}B"]) as cluster:
        client = cluster.nodes[2].client()
        n, reply = fill(client, b"k")
        assert 90 < n < 110
        assert reply.code == kv.NO_SPACE and reply.hint.limit == "data-limit" and reply.hint.limit_value == LIMIT
        # Reads, smaller values and deletions go on, and then there is room again.
        assert client.call(get=kv.Get(key=b"k0")).code == kv.OK
        assert client.put(b"k0", b"small").code == kv.OK
        everything = kv.KeyRange(special=kv.KeyRange.ALL)
        assert client.call(delete=kv.Delete(ranges=[everything])).delete.deleted == n
        assert client.put(b"after", VALUE).code == kv.OK
        assert {limit_of(node) for node in cluster.nodes.values()} == {LIMIT}


def test_flag_is_for_new_clusters_alone(tmp_path):
    with Cluster(tmp_path, options=[f"--max-data-bytes={LIMIT}B"]) as cluster:
        client = cluster.nodes[1].client()
        assert client.call(config_set=kv.ConfigSet(name="data-limit", value=5 * LIMIT)).code == kv.OK
        for node in cluster.nodes.values():
            node.terminate()
        for node in cluster.nodes.values():
            node.start()
        cluster.wait_serving()
        assert cluster.nodes[1].client().put(b"key", VALUE).code == kv.OK
        assert {limit_of(node) for node in cluster.nodes.values()} == {5 * LIMIT}


def test_a_client_cannot_make_use_of_it(tmp_path):
    with Cluster(tmp_path, nodes=1) as cluster:
        client = cluster.nodes[1].client()
        assert client.put(b"first", b"entry").code == kv.OK
        assert client.call(config_set=kv.ConfigSet(name="data-limit", value=LIMIT, at_bootstrap=True)).code == kv.OK
        assert limit_of(cluster.nodes[1]) == 0
