"""The face given belongs to the pixels shown; every choice is a function of the position."""

import pytest
import torch
from torch.nn.functional import normalize

from faceid.data.dancer_faces.face_bank import BankedFaces, FaceBank
from faceid.data.stream.pairing import Pairing
from faceid.data.stream.pairing_settings import PairingSettings
from faceid.errors import ConfigError
from faceid.faces.aggregate import aggregate
from faceid.faces.identities.identity import Identity

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
        return Pairing(PairingSettings(**settings), 7, identity, FaceBank.of_clips(FACES, DANCER_OF), DANCER_OF)

    return pairing


def test_a_clip_gets_its_own_dancers_face(make):
    pairing = make()
    for g in range(50):
        for key, seed in (("ann_1", 1), ("ann_2", 1), ("bob_1", 2)):
            face = pairing.clip_face(key, g).embedding
            assert face.norm().item() == pytest.approx(1, abs=1e-5)
            own, other = (float(face @ normalize(around(s).mean(0), dim=0)) for s in (seed, 3 - seed))
            assert own > 0.9 > other
            assert float(face @ pairing.target) < 0.9


def test_a_clip_whose_dancer_has_no_face_gets_the_null_face(make):
    assert torch.equal(make().clip_face("cat_1", 0).embedding, torch.zeros(DIM))


def test_the_share_of_faces_from_other_clips_is_the_one_asked_for(make, monkeypatch):
    import faceid.data.dancer_faces.face_bank as module

    for share in (0.0, 0.75, 1.0):
        seen = []
        monkeypatch.setattr(module, "aggregate", recording(seen))
        pairing = make(other_clip_share=share)
        for g in range(400):
            pairing.clip_face("ann_1", g)
        others = sum(any(torch.equal(pool[0], row) for row in FACES["ann_2"]) for pool in seen) / len(seen)
        assert others == pytest.approx(share, abs=0.06)
        chosen = [pairing.clip_face("ann_1", g) for g in range(400)]
        assert sum(face.source == "other_clip" for face in chosen) / 400 == others
        assert [face.num_faces for face in chosen] == [len(pool) for pool in seen[:400]]


def test_the_same_dance_by_another_camera_or_another_part_of_it_is_no_other_performance(make, monkeypatch):
    """Clips were cut out of films; a bank holds the films' faces. Keys are names in lower case."""
    import faceid.data.dancer_faces.face_bank as module

    names = {
        "gbr_sbm_c01_d04_mbr0_ch01": "own",
        "gbr_sbm_c05_d04_mbr0_ch01": "own, seen by another camera",
        "gbr_sbm_c01_d04_mbr0_ch02": "other",
        "gbr_sbm_c01_d05_mbr0_ch01": "another dancer's",
    }
    films = [
        BankedFaces(name, name.split("_")[3], around(seed), torch.ones(5)) for seed, name in enumerate(names, start=20)
    ]
    seen = []
    monkeypatch.setattr(module, "aggregate", recording(seen))
    clip = "gbr_sbm_c01_d04_mbr0_ch01_clip_003"
    pairing = Pairing(PairingSettings(other_clip_share=1.0), 7, make().identity, FaceBank(films), {clip: "d04"})
    for g in range(30):
        pairing.clip_face(clip, g)
    assert all(any(torch.equal(row, face) for face in films[2].embeddings) for pool in seen for row in pool)
    seen.clear()
    pairing = Pairing(PairingSettings(other_clip_share=0.0), 7, make().identity, FaceBank(films), {clip: "d04"})
    for g in range(30):
        pairing.clip_face(clip, g)
    own = torch.cat([films[0].embeddings, films[1].embeddings])
    assert all(any(torch.equal(row, face) for face in own) for pool in seen for row in pool)


def test_a_better_face_counts_for_more():
    good, poor = around(1, 1), around(2, 1)
    films = [BankedFaces("a_1", "a", torch.cat([good, poor]), torch.tensor([0.9, 0.1]))]
    identity = Identity("target", good[0], "clip", "f")
    pairing = Pairing(PairingSettings(max_faces=2), 7, identity, FaceBank(films), {"a_1": "a"})
    both = {tuple(pairing.clip_face("a_1", g).embedding.tolist()) for g in range(40)}
    # One, the other, or both: and both together lie nearer to the better one.
    assert len(both) == 3
    mixed = [torch.tensor(face) for face in both]
    assert any(float(face @ good[0]) > 0.95 and float(face @ good[0]) < 0.9999 for face in mixed)


def test_a_photo_is_given_the_target_without_that_photo(make):
    pairing = make()
    rest = "bcd"
    embeddings = torch.stack([pairing.identity.photo_embeddings[f"{p}.jpg"] for p in rest])
    expected = aggregate(embeddings, torch.tensor([0.3, 0.2, 0.1]), "weighted_mean")
    torch.testing.assert_close(pairing.photo_face("a.jpg"), expected)
    assert not torch.allclose(pairing.photo_face("a.jpg"), pairing.target)


def test_the_naive_recipe_gives_everything_the_target(make):
    pairing = make(pairing="constant")
    faces = (*(pairing.clip_face(clip, 3).embedding for clip in ("ann_1", "cat_1")), pairing.photo_face("a.jpg"))
    for face in faces:
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
