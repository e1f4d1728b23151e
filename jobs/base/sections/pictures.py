"""Settings of the catalogue's pictures: how many of an item are used, and how those of other servers are fetched."""

from pydantic import Field

from jobs.base.sections.section import Section


class PictureSettings(Section):
    """Pictures of the catalogue. One that a URL of http or https names is fetched only if `hosts` names its server."""

    per_item: int = Field(10, ge=1, le=1_000, description="Number of an item's pictures that are used, the first ones.")
    hosts: str = Field(
        "",
        description="Servers from which pictures may be fetched, separated by commas, such as 'img.example.com, "
        "*.cdn.example.com, img.example.org:8443'. If empty, none is. A server of your own network also needs its address in "
        "the list ('img.internal, 10.0.0.5').",
    )
    max_mb: float = Field(10.0, gt=0, le=64, description="Largest picture that is fetched, in MB.")
    seconds: float = Field(20.0, gt=0, le=600, description="Longest time that one request may take.")
    redirects: int = Field(3, ge=0, le=10, description="Most redirects of one picture. Each must lead to a server of the list.")
    retries: int = Field(2, ge=0, le=10, description="Further attempts after an answer 429 or 5xx or a broken connection.")
    per_second: float = Field(10.0, gt=0, le=10_000, description="Most requests per second to one server.")
    parallel: int = Field(8, ge=1, le=256, description="Most pictures that are fetched at once.")
    minutes: float = Field(
        15.0, gt=0, le=1440, description="Longest time that a step fetches pictures. Those that are left come on a later date."
    )
    valid_days: float = Field(
        7.0,
        ge=0,
        le=3650,
        description="Days after which the server of a fetched picture is asked whether it changed.",
    )
