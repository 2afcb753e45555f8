"""What is said of lists and pictures of several domains that are not as they should be."""

from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import Images
from vl_absvit.prepare.domain_folders import DomainFolders
from vl_absvit.prepare.domain_lists import DomainLists

PACS_CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
PACS = {
    "art_painting": (1_840, 207, 2_048),
    "cartoon": (2_107, 237, 2_344),
    "photo": (1_499, 171, 1_670),
    "sketch": (3_531, 398, 3_929),
}
"""Pictures of each domain in the published lists: to train on, held out, in all."""


def missing_in_words(images: Images, finder: DomainFolders, *, allowed: bool) -> list[str]:
    """Words about missing pictures.

    Raises:
        InputError: all are missing, or some, and that is not allowed.
    """
    if not images.missing:
        return []
    first = images.files[images.missing[0]]
    if not finder.has_pictures or len(images.missing) == len(images.files):
        raise InputError(f"no picture of the lists is there: {finder.looked_for(first)}")
    found = f"{len(images.missing)} of {len(images.files)} pictures are missing, the first is {images.raw / first}"
    if not allowed:
        raise InputError(f"{found}; --allow-missing-images leaves them out")
    return [f"{found}; they are left out"]


def faults_in_words(lists: DomainLists) -> list[str]:
    """Words about lines that were mended, and about pictures that only the list of the whole domain has."""
    words = []
    if lists.mislabelled:
        first = lists.mislabelled[0]
        words.append(
            f"{len(lists.mislabelled)} line(s) have a label that contradicts the folder, which counts; the first is "
            f"{first.number} of {first.path} ({first.location})"
        )
    if lists.repeated:
        first = lists.repeated[0]
        words.append(
            f"{len(lists.repeated)} line(s) repeat others and are left out; the first is {first.path} "
            f"({first.location})"
        )
    for name, domain in lists.domains.items():
        parts = {one.path for one in (*domain.train, *domain.held_out)}
        if tested := [one.path for one in domain.whole if one.path not in parts]:
            words.append(f"{name}: {len(tested)} picture(s) are tested on alone, in no other list, e.g. {tested[0]}")
    return words


def published_in_words(lists: DomainLists) -> list[str]:
    """Differences from PACS as published, where the lists are PACS's by the names of domains and classes."""
    if list(lists.domains) != list(PACS) or tuple(lists.classes) != PACS_CLASSES:
        return []
    counts = {name: tuple(map(len, domain)) for name, domain in lists.domains.items()}
    return [
        f"{name}: {' / '.join(map(str, of_name))} pictures to train on / held out / in all; PACS as published has "
        + " / ".join(map(str, PACS[name]))
        for name, of_name in counts.items()
        if of_name != PACS[name]
    ]


def unlisted_in_words(finder: DomainFolders, lists: DomainLists) -> list[str]:
    listed = {one.path for one in lists.pictures}
    others = [file for file in finder.pictures() if file not in listed]
    return [f"{len(others)} files are in no list and left out, e.g. {others[0]}"] if others else []


def parts_of(lists: DomainLists) -> dict[str, tuple[str, str]]:
    """Domain and part of every picture, by path."""
    return {
        one.path: (name, part)
        for name, domain in lists.domains.items()
        for part, pictures in (("tested", domain.whole), ("held out", domain.held_out), ("trained on", domain.train))
        for one in pictures
    }
