"""The face given belongs to the pixels shown; every choice is a function of the position."""

import pytest
import torch
from torch.nn.functional import normalize

from faceid.data.pairing import Pairing, PairingSettings
from faceid.errors import ConfigError
from faceid.faces.aggregate import aggregate
from faceid.faces.identity import Identity

DIM = 32
DANCER_OF = {"ann_1": "ann", "ann_2": "ann", "bob_1": "bob", "cat_1": "cat"}


def around(seed, count=5):
    """Unit embeddings of one person: close to each other, far from another seed's."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(DIM, generator=generator)
    return normalize(centre + 0.2 * torch.randn(count, DIM, generator=generator), dim=1)


FACES = {"ann_1": around(1), "ann_2": around(1) + 1e-3, "bob_1": around(2)}


def recording(seen):
    """An aggregate that only notes what it is given."""
    return lambda pool, weights, how: seen.append(pool) or pool[0]


@pytest.fixture
def make():
    photos = {f"{name}.jpg": face for name, face in zip("abcd", around(9, 4), strict=True)}
    weights = {"a.jpg": 0.4, "b.jpg": 0.3, "c.jpg": 0.2, "d.jpg": 0.1}
    target = aggregate(torch.stack(list(photos.values())), torch.tensor(list(weights.values())), "weighted_mean")
    identity = Identity("target", target, "clip", "f", photo_embeddings=photos, photo_weights=weights)

    def pairing(**settings):
        return Pairing(PairingSettings(**settings), 7, identity, FACES, DANCER_OF)

    return pairing


def test_a_clip_gets_its_own_dancers_face(make):
    pairing = make()
    for g in range(50):
        for key, seed in (("ann_1", 1), ("ann_2", 1), ("bob_1", 2)):
            face = pairing.clip_face(key, g)
            assert face.norm().item() == pytest.approx(1, abs=1e-5)
            own, other = (float(face @ normalize(around(s).mean(0), dim=0)) for s in (seed, 3 - seed))
            assert own > 0.9 > other
            assert float(face @ pairing.target) < 0.9


def test_a_clip_whose_dancer_has_no_face_gets_the_null_face(make):
    assert torch.equal(make().clip_face("cat_1", 0), torch.zeros(DIM))


def test_the_share_of_faces_from_other_clips_is_the_one_asked_for(make, monkeypatch):
    import faceid.data.pairing as module

    for share in (0.0, 0.75, 1.0):
        seen = []
        monkeypatch.setattr(module, "aggregate", recording(seen))
        pairing = make(other_clip_share=share)
        for g in range(400):
            pairing.clip_face("ann_1", g)
        others = sum(any(torch.equal(pool[0], row) for row in FACES["ann_2"]) for pool in seen) / len(seen)
        assert others == pytest.approx(share, abs=0.06)


def test_a_photo_is_given_the_target_without_that_photo(make):
    pairing = make()
    rest = "bcd"
    embeddings = torch.stack([pairing.identity.photo_embeddings[f"{p}.jpg"] for p in rest])
    expected = aggregate(embeddings, torch.tensor([0.3, 0.2, 0.1]), "weighted_mean")
    torch.testing.assert_close(pairing.photo_face("a.jpg"), expected)
    assert not torch.allclose(pairing.photo_face("a.jpg"), pairing.target)


def test_the_naive_recipe_gives_everything_the_target(make):
    pairing = make(pairing="constant")
    for face in (pairing.clip_face("ann_1", 3), pairing.clip_face("cat_1", 3), pairing.photo_face("a.jpg")):
        assert torch.equal(face, pairing.target)


def test_drop_outs_have_their_shares_and_depend_on_the_position_alone(make):
    pairing = make(face_dropout=0.2, text_dropout=0.3, both_dropout=0.1)
    drops = [pairing.drops(g) for g in range(4000)]
    shares = {kind: drops.count(kind) / len(drops) for kind in set(drops)}
    assert shares[(True, True)] == pytest.approx(0.1, abs=0.02)
    assert shares[(True, False)] == pytest.approx(0.2, abs=0.02)
    assert shares[(False, True)] == pytest.approx(0.3, abs=0.02)
    assert [make(face_dropout=0.2, text_dropout=0.3, both_dropout=0.1).drops(g) for g in range(4000)] == drops


def test_drop_outs_over_one_are_refused():
    with pytest.raises(ConfigError, match="sum is over 1"):
        PairingSettings(face_dropout=0.6, text_dropout=0.6)
