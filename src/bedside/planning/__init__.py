"""From a data set to a recipe to start with: what is there, what to choose, written down."""

from bedside.planning.choose import RecipePlan, Wishes, choose_recipe
from bedside.planning.survey import Survey, survey_data
from bedside.planning.write import to_toml

__all__ = ["RecipePlan", "Survey", "Wishes", "choose_recipe", "survey_data", "to_toml"]
