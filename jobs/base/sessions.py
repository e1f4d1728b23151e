"""A session that no user is known of is a user of its own, under a name that tells it from the ids of users."""

SESSION = "session "


def session_user(session_id: str) -> str:
    """The id under which the lake has a session without a user."""
    return SESSION + session_id


def session_of(user_id: str) -> str | None:
    """The session that such an id stands for; None for the id of a user."""
    return user_id.removeprefix(SESSION) if user_id.startswith(SESSION) else None
