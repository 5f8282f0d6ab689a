"""A first recipe for a data set: survey, choice, TOML."""

from bedside.planning.choose import RecipePlan, Wishes, choose_recipe
from bedside.planning.survey import Survey, survey_data
from bedside.planning.write import to_toml

__all__ = ["RecipePlan", "Survey", "Wishes", "choose_recipe", "survey_data", "to_toml"]
