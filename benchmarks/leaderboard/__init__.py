"""The leaderboard of private recommendation, and the command behind each of its rows."""
