"""Comparisons as figures, tables and one page to put in front of a colleague.

The only part of steerlens that imports matplotlib. Each figure has two halves: ``prepare_*`` returns
what is drawn, ``draw_*`` puts it on axes.
"""

from steerlens.reports._across import (
    AcrossEffects,
    across_html,
    draw_across,
    draw_across_effects,
    prepare_across,
    write_across,
)
from steerlens.reports._agreement import (
    AgreementPanel,
    ConceptPoint,
    agreement_reading,
    draw_agreement,
    draw_agreement_key,
    draw_agreement_panel,
    prepare_agreement,
    write_agreement,
)
from steerlens.reports._answer import Answer, Finding, answer
from steerlens.reports._bottom_up import bottom_up_reading, prepare_bottom_up, write_bottom_up
from steerlens.reports._budget import BudgetEffect, BudgetEffects, draw_budget_effects, prepare_budget_effects
from steerlens.reports._card import (
    CardControls,
    CardQuestions,
    ControlRow,
    draw_card_controls,
    draw_card_questions,
    prepare_card_controls,
    prepare_card_questions,
)
from steerlens.reports._card_page import card_html, write_card
from steerlens.reports._contrasts import (
    PairedContrast,
    PairedContrasts,
    draw_paired_contrasts,
    prepare_paired_contrasts,
)
from steerlens.reports._dola import (
    LayerChoices,
    TrajectoryPanel,
    TrajectoryPanels,
    draw_layer_choices,
    draw_spikes,
    draw_trajectories,
    draw_trajectory_panel,
    prepare_layer_choices,
    prepare_trajectories,
)
from steerlens.reports._entanglement import EntanglementSquare, draw_entanglement, prepare_entanglement
from steerlens.reports._figures import draw_comparison
from steerlens.reports._frontier import Frontier, Frontiers, draw_effect_against_kl, prepare_effect_against_kl
from steerlens.reports._geometry import (
    GeometryLine,
    GeometryProfile,
    draw_geometry,
    draw_geometry_profile,
    draw_ring,
    prepare_geometry_profiles,
)
from steerlens.reports._geometry_page import write_geometry
from steerlens.reports._layers import LayerProfile, LayerProfiles, draw_layer_profiles, prepare_layer_profiles
from steerlens.reports._off_course import off_course_reading, prepare_off_course, write_off_course
from steerlens.reports._page import write_report
from steerlens.reports._planted import (
    PlantedGrid,
    PlantedPanel,
    PlantedPanels,
    draw_planted_grid,
    draw_planted_maps,
    draw_planted_panel,
    draw_planted_table,
    prepare_planted_grids,
    prepare_planted_panels,
)
from steerlens.reports._prompt_structure import (
    prepare_prompt_structure,
    prompt_structure_reading,
    write_prompt_structure,
)
from steerlens.reports._propensity import (
    PropensityCurve,
    PropensityCurves,
    draw_propensity_curves,
    prepare_propensity_curves,
)
from steerlens.reports._steerability import (
    Steerabilities,
    Steerability,
    draw_steerability,
    prepare_steerability,
)
from steerlens.reports._study_page import IntervalRows, draw_interval_rows
from steerlens.reports._tables import comparison_html
from steerlens.reports._theories import prepare_rungs, rungs_table, theories_answer, theories_limits, write_theories
from steerlens.reports._transfer import draw_transfer

__all__ = [
    "AcrossEffects",
    "AgreementPanel",
    "Answer",
    "BudgetEffect",
    "BudgetEffects",
    "CardControls",
    "CardQuestions",
    "ConceptPoint",
    "ControlRow",
    "EntanglementSquare",
    "Finding",
    "Frontier",
    "Frontiers",
    "GeometryLine",
    "GeometryProfile",
    "IntervalRows",
    "LayerChoices",
    "LayerProfile",
    "LayerProfiles",
    "PairedContrast",
    "PairedContrasts",
    "PlantedGrid",
    "PlantedPanel",
    "PlantedPanels",
    "PropensityCurve",
    "PropensityCurves",
    "Steerabilities",
    "Steerability",
    "TrajectoryPanel",
    "TrajectoryPanels",
    "across_html",
    "agreement_reading",
    "answer",
    "bottom_up_reading",
    "card_html",
    "comparison_html",
    "draw_across",
    "draw_across_effects",
    "draw_agreement",
    "draw_agreement_key",
    "draw_agreement_panel",
    "draw_budget_effects",
    "draw_card_controls",
    "draw_card_questions",
    "draw_comparison",
    "draw_effect_against_kl",
    "draw_entanglement",
    "draw_geometry",
    "draw_geometry_profile",
    "draw_interval_rows",
    "draw_layer_choices",
    "draw_layer_profiles",
    "draw_paired_contrasts",
    "draw_planted_grid",
    "draw_planted_maps",
    "draw_planted_panel",
    "draw_planted_table",
    "draw_propensity_curves",
    "draw_ring",
    "draw_spikes",
    "draw_steerability",
    "draw_trajectories",
    "draw_trajectory_panel",
    "draw_transfer",
    "off_course_reading",
    "prepare_across",
    "prepare_agreement",
    "prepare_bottom_up",
    "prepare_budget_effects",
    "prepare_card_controls",
    "prepare_card_questions",
    "prepare_effect_against_kl",
    "prepare_entanglement",
    "prepare_geometry_profiles",
    "prepare_layer_choices",
    "prepare_layer_profiles",
    "prepare_off_course",
    "prepare_paired_contrasts",
    "prepare_planted_grids",
    "prepare_planted_panels",
    "prepare_prompt_structure",
    "prepare_propensity_curves",
    "prepare_rungs",
    "prepare_steerability",
    "prepare_trajectories",
    "prompt_structure_reading",
    "rungs_table",
    "theories_answer",
    "theories_limits",
    "write_across",
    "write_agreement",
    "write_bottom_up",
    "write_card",
    "write_geometry",
    "write_off_course",
    "write_prompt_structure",
    "write_report",
    "write_theories",
]
