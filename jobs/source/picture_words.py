"""What became of pictures, in words. The check, the raw gate, the summary and the report all take them from here."""

from collections.abc import Mapping

# Each follows a number of pictures, or of items: "2 not found".
WORDS = {
    # What was done about a picture by URL (`jobs.source.picture_fetching`).
    "fetched": "downloaded now",
    "unchanged": "unchanged since an earlier download, as the server says",
    "not_asked": "kept from an earlier download",
    "kept_though_failed": "kept from an earlier download, because the server fails now",
    "left_for_later": "left for a later run, because the time of pictures.minutes was over",
    # Why there is no picture.
    "not_fetched": "not downloaded yet",
    "refused_host": "on servers that pictures.hosts does not name",
    "refused_address": "on servers with an address that is not public",
    "unreachable": "on servers that cannot be reached",
    "timed_out": "that did not come within pictures.seconds",
    "server_error": "on servers that answer with an error or are too busy",
    "refused_by_server": "that the server does not give out",
    "redirects": "redirected more often than pictures.redirects allows",
    "not_given": "that the catalogue does not name",
    "not_found": "not found",
    "no_ordinary_file": "that are no files (a folder has that name, for example)",
    "no_permission": "that this account may not read",
    "refused_scheme": "by URL or in another store, which are not read here",
    "impossible_name": "with a name that no file can have",
    "empty": "empty",
    "too_large": "too large",
    "missing": "missing",
    # Why a file cannot be decoded (`jobs.source.picture_content`).
    "unreadable": "that cannot be decoded",
    "no_picture": "that are no JPEG, PNG, WebP, GIF or BMP",
    "huge": "with too many pixels",
    "truncated": "cut off",
    "damaged": "damaged",
    # What was found in pictures that are used.
    "animated": "animated",
    "transparent": "partly transparent",
    "rotated": "turned upright",
    "cmyk": "in CMYK",
    "palette": "with a palette",
    "grey": "in grey",
    "sixteen_bit": "with 16 bits",
}


def in_words(word: str) -> str:
    """What a word of the picture modules means, as it follows a number of pictures. An unknown one is read as it stands."""
    return WORDS.get(word, word.replace("_", " "))


def counted(counts: Mapping[str, int]) -> str:
    """How many pictures each word applies to: `2 downloaded now; 1 not found`."""
    return "; ".join(f"{count:,} {in_words(word)}" for word, count in counts.items())
